"""Kernel time of a few layers of ResNet-50 against the number of bits.

Operands are tensors captured from that network, repeated to 16 images. All numbers of bits take
turns in one process, as do operands of 8 bits, whose INT32 sums are never flushed before a
reduction ends. Kernel time depends on the bits through the flush schedule alone.
"""

import statistics

import bit_budget_schedule as schedule
import numpy as np
import pandas as pd
from bit_budget_table import layer_reductions
from bit_budget_tensors import find_snapshots, last_snapshots

import dfpkeras
from dfpkeras import kernels
from dfpkeras.benchmark.measure import take_turns

NETWORK = "resnet50"
#: 56x56 64->64 3x3, 28x28 128->512 1x1 and 14x14 256->256 3x3.
LAYERS = ("conv2_block2_2_conv", "conv3_block2_3_conv", "conv4_block2_2_conv")
BATCH_SIZE = 16
NEVER_FLUSHED = (8, 8)
SECONDS_EACH = 4.0


def measure_speed(work):
    """Times the three directions of each layer.

    Args:
        work: directory with captured tensors of ResNet-50.

    Returns:
        A data frame with a row for each layer, direction and sum of the bits of both operands:
        ``layer, direction, bits`` (0: never flushed), ``mean_run`` and ``milliseconds`` (median).
    """
    snapshot = next(s for s in last_snapshots(find_snapshots(work)) if s.network == NETWORK)
    layers = [layer for layer in snapshot.layers() if layer.name in LAYERS]
    rows = []
    for layer in layers:
        for direction, roles in schedule.OPERANDS.items():
            operands = [_repeat(layer, role) for role in roles]
            rows += _measure(layer, direction, operands)
    return pd.DataFrame(rows)


def split_bits(total):
    """Divides a sum of bits between the broadcast and the packed operand."""
    return total - total // 2, total // 2


def _repeat(layer, role):
    """An operand of `BATCH_SIZE` images."""
    tensor = getattr(layer, role)
    if role == "w":
        return tensor
    return np.concatenate([tensor] * -(-BATCH_SIZE // len(tensor)))[:BATCH_SIZE]


def _measure(layer, direction, operands):
    """Yields the rows of one direction of a layer."""
    bits_of = {0: NEVER_FLUSHED} | {total: split_bits(total) for total in range(23, 31)}
    quantized = {
        total: [dfpkeras.quantize(x, b) for x, b in zip(operands, bits, strict=True)]
        for total, bits in bits_of.items()
    }
    calls = {total: _call(layer, direction, *pair) for total, pair in quantized.items()}
    times = take_turns(calls, SECONDS_EACH)
    for total, (broadcast, packed) in quantized.items():
        runs = schedule.count_layer_runs(
            layer_reductions(direction, layer, packed.data), broadcast.max_abs
        )
        yield {
            "layer": layer.name,
            "direction": direction,
            "bits": total,
            "mean_run": runs.mean_run,
            "milliseconds": 1e3 * statistics.median(times[total]),
        }


def _call(layer, direction, broadcast, packed):
    options = {"strides": layer.strides, "padding": layer.padding}
    x_shape = (BATCH_SIZE, *layer.x.shape[1:])
    if direction == "forward":
        return lambda: kernels.conv2d_forward(broadcast, packed, **options)
    if direction == "backward_data":
        return lambda: kernels.conv2d_backward_data(broadcast, packed, x_shape, **options)
    return lambda: kernels.conv2d_backward_weights(broadcast, packed, layer.w.shape, **options)

"""Run lengths and signal-to-noise ratios of captured tensors, for each number of bits.

Every function returns a `pandas.DataFrame` that is small enough to keep, with layers summarised.
The first layer's backward_data is left out, since training does not compute it.
"""

import math

import bit_budget_noise as noise
import bit_budget_schedule as schedule
import pandas as pd

import dfpkeras

#: Magnitude bits to try for each role: activations, weights, gradients.
GRID = {"x": range(12, 16), "w": range(11, 16), "dy": range(12, 16)}
# The bits do not matter for reductions shorter than this: they end before a run could be long.
SHORTEST_REDUCTION = 64


def tabulate_runs(snapshot):
    """Counts the proven runs of a network.

    Args:
        snapshot: `Snapshot`.

    Returns:
        A data frame with a row for each direction and pair of bits: ``network, step, direction,
        broadcast_bits, packed_bits``, ``mean_run`` (multiply-adds of the network over the runs of
        all its results' elements), ``worst_run`` (the same of the layer where it is least; layers
        that would stay below 64 without any overflow do not count) and ``longest_run`` (the mean
        run if INT32 never overflowed).
    """
    layers = pd.DataFrame(
        {"layer": layer.name, **row} for layer in snapshot.layers() for row in _layer_runs(layer)
    )
    layers["run"] = layers["products"] / layers["runs"]
    layers["long"] = layers["products"] / layers["longest_runs"] >= SHORTEST_REDUCTION
    keys = ["direction", "broadcast_bits", "packed_bits"]
    total = layers.groupby(keys, sort=False)[["products", "runs", "longest_runs"]].sum()
    table = pd.DataFrame(
        {
            "mean_run": total["products"] / total["runs"],
            "worst_run": layers[layers["long"]].groupby(keys)["run"].min(),
            "longest_run": total["products"] / total["longest_runs"],
        }
    )
    return _label(snapshot, table.loc[total.index].reset_index())


def _layer_runs(layer):
    """Yields the counts of a layer for each direction and pair of bits."""
    quantized = {
        (role, bits): dfpkeras.quantize(getattr(layer, role), bits)
        for role, range_of_bits in GRID.items()
        for bits in range_of_bits
    }
    for direction in layer.directions:
        broadcast, packed = schedule.OPERANDS[direction]
        for packed_bits in GRID[packed]:
            reductions = layer_reductions(direction, layer, quantized[packed, packed_bits].data)
            longest = schedule.count_layer_runs(reductions, 0)
            for broadcast_bits in GRID[broadcast]:
                max_abs = quantized[broadcast, broadcast_bits].max_abs
                count = schedule.count_layer_runs(reductions, max_abs)
                yield {
                    "direction": direction,
                    "broadcast_bits": broadcast_bits,
                    "packed_bits": packed_bits,
                    "products": count.products,
                    "runs": count.runs,
                    "longest_runs": longest.runs,
                }


def layer_reductions(direction, layer, packed):
    """Returns the list of `Reduction` of a layer whose packed operand is the int16 ``packed``."""
    if direction == "forward":
        return schedule.reduce_forward(packed, layer.dy.shape)
    if direction == "backward_data":
        return schedule.reduce_backward_data(packed, layer.x.shape, layer.strides, layer.padding)
    return schedule.reduce_backward_weights(packed, layer.w.shape)


def tabulate_operands(snapshot):
    """Measures the noise of quantising, with rounding to nearest.

    Args:
        snapshot: `Snapshot`.

    Returns:
        A data frame with a row for each role and format: ``network, step, role, format`` (bits, or
        "bfloat16") and ``median, worst``, the signal-to-noise ratio over layers, in dB.
    """
    rows = [row for layer in snapshot.layers() for row in _layer_operands(layer)]
    return _label(snapshot, _median_and_worst(rows, ["role", "format"]).reset_index())


def _layer_operands(layer):
    """Yields the noise of a layer's operands for each role and format."""
    for role, range_of_bits in GRID.items():
        x = getattr(layer, role)
        for bits in range_of_bits:
            yield {"role": role, "format": str(bits), "snr": noise.operand_snr(x, bits)}
        yield {"role": role, "format": "bfloat16", "snr": noise.bfloat16_snr(x)}


def tabulate_results(snapshot, candidates):
    """Measures the noise of what the integer kernels compute.

    Args:
        snapshot: `Snapshot`.
        candidates: list of (activation bits, weight bits, gradient bits).

    Returns:
        A data frame with a row for each direction and format: ``network, step, direction, format``
        (bits as "14/13/14", or "float32", or "batch": the weight gradient of one batch as an
        estimate of that of all images), ``median, worst``, the signal-to-noise ratio over layers
        in dB, and ``margin``, how far in dB the noise is below that of the batch in the layer
        where it is least (only for weight gradients).
    """
    rows = [row for layer in snapshot.layers() for row in _layer_results(layer, candidates)]
    keys = ["direction", "format"]
    table = _median_and_worst(rows, keys)
    table["margin"] = pd.DataFrame(rows).groupby(keys)["margin"].min()
    return _label(snapshot, table.reset_index())


def _layer_results(layer, candidates):
    """Yields the noise of a layer for each direction and format."""
    exact, batch = noise.exact_results(layer), noise.batch_snr(layer)
    ratios = {"float32": noise.float32_snr(exact, layer)}
    for candidate in candidates:
        bits = dict(zip(("x", "w", "dy"), candidate, strict=True))
        ratios[name_of(candidate)] = noise.result_snr(exact, layer, bits)
    ratios["batch"] = {"backward_weights": batch}
    for form, by_direction in ratios.items():
        for direction in filter(by_direction.__contains__, layer.directions):
            snr = by_direction[direction]
            margin = snr - batch if direction == "backward_weights" else math.nan
            yield {"direction": direction, "format": form, "snr": snr, "margin": margin}


def name_of(candidate):
    """Returns bits as text: activations/weights/gradients."""
    return "/".join(map(str, candidate))


def _median_and_worst(rows, keys):
    return pd.DataFrame(rows).groupby(keys, sort=False)["snr"].agg(median="median", worst="min")


def _label(snapshot, table):
    table.insert(0, "network", snapshot.network)
    table.insert(1, "step", snapshot.step)
    return table

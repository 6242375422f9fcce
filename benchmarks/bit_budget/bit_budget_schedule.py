"""The length of the proven runs of a layer's INT32 sums: the flush schedule, in NumPy.

The rule is that of ``include/dfp/engine/flush_schedule.h``. Of the two operands one is broadcast
(A), the other packed (B), in pairs along the reduction. A run may hold products as long as max|A|
times the sum of |B| stays within INT32 in each of the 64 columns that share a schedule. Runs are
extended greedily by steps of 8 pairs; a step that does not fit into an empty run is added pair by
pair.

=================  ============  ===========  ====================================================
direction          broadcast     packed       order of the reduction
=================  ============  ===========  ====================================================
forward            activations   weights      rows of the kernel, in each its columns and channels
backward_data      gradients     weights      for each phase of the strides, rows of the kernel
                                              that reach it, in each its columns and filters
backward_weights   activations   gradients    output pixels, in blocks of 512 consecutive ones,
                                              each with its own schedule
=================  ============  ===========  ====================================================

This differs from the kernels in two places. Their blocks of backward_weights have the same length,
but for weights larger than 1x1 they end with an output row, and rows may be padded. With fewer than
about 16 channels, their backward_data computes neighbouring pixels together: in these networks that
is only the first layer, whose backward_data training does not need.
"""

import dataclasses
import itertools
import math

import numpy as np

INT32_MAX = 2**31 - 1
PAIRS_PER_STEP = 8
COLUMNS_PER_SCHEDULE = 64
PIXELS_PER_BLOCK = 512

#: {direction: (role of the broadcast operand, role of the packed one)}
OPERANDS = {
    "forward": ("x", "w"),
    "backward_data": ("dy", "w"),
    "backward_weights": ("x", "dy"),
}


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Packed operands of one length, each with its own flush schedule.

    Attributes:
        pair_sums: int64 (schedules, pairs, columns), the sums of |B| over each pair.
        products: int64 (schedules,), the length of the reduction without padding.
        elements: int64 (schedules,), elements of the result that follow the schedule.
    """

    pair_sums: np.ndarray
    products: np.ndarray
    elements: np.ndarray


@dataclasses.dataclass(frozen=True)
class RunCount:
    """Multiply-adds, and how many of them end a run of some element of the result.

    Attributes:
        products, runs: int.
    """

    products: int
    runs: int

    @property
    def mean_run(self):
        """Products in a run, on average over all runs of all elements."""
        return self.products / self.runs


def count_runs(pair_sums, max_abs):
    """Counts the runs of flush schedules.

    Args:
        pair_sums: int64 (schedules, pairs, columns), see `Reduction`.
        max_abs: int, the largest magnitude of the broadcast operand.

    Returns:
        int64 (schedules,), the number of runs, including the one closed by the end of the
        reduction.
    """
    limit = INT32_MAX // max_abs if max_abs else np.iinfo(np.int64).max
    schedules, pairs, columns = pair_sums.shape
    padding = -pairs % PAIRS_PER_STEP
    padded = np.pad(pair_sums, ((0, 0), (0, padding), (0, 0)))
    steps = padded.reshape(schedules, -1, PAIRS_PER_STEP, columns)
    whole_steps = steps.sum(axis=2)
    fits = whole_steps.max(axis=2) <= limit
    open_sums = np.zeros((schedules, columns), np.int64)
    runs = np.ones(schedules, np.int64)
    for step in range(steps.shape[1]):
        whole, cut = np.flatnonzero(fits[:, step]), np.flatnonzero(~fits[:, step])
        _append(open_sums, runs, whole, whole_steps[whole, step], limit)
        if step > 0:
            runs[cut] += 1
        open_sums[cut] = 0
        for pair in range(PAIRS_PER_STEP if cut.size else 0):
            _append(open_sums, runs, cut, steps[cut, step, pair], limit)
    return runs


def _append(open_sums, runs, which, added, limit):
    """Adds to the open runs of some schedules, after closing those that would grow too large."""
    joined = open_sums[which] + added
    full = joined.max(axis=1) > limit
    runs[which] += full
    open_sums[which] = np.where(full[:, None], added, joined)


def count_layer_runs(reductions, max_abs):
    """Sums the runs of a layer's direction over all elements of its result.

    Args:
        reductions: list of `Reduction`.
        max_abs: int, the largest magnitude of the broadcast operand.

    Returns:
        A `RunCount`.
    """
    products = sum(int(r.products @ r.elements) for r in reductions)
    runs = sum(int(count_runs(r.pair_sums, max_abs) @ r.elements) for r in reductions)
    return RunCount(products, runs)


def reduce_forward(w, y_shape):
    """Returns the reductions of a forward convolution.

    Args:
        w: int16 (kernel height, kernel width, channels, filters).
        y_shape: (batch, output height, output width, filters).

    Returns:
        list of `Reduction`.
    """
    rows = [row.reshape(-1, w.shape[3]) for row in w]
    return [_weights_reduction(rows, math.prod(y_shape[:3]))]


def reduce_backward_data(w, x_shape, strides, padding):
    """Returns the reductions of a convolution's gradient with respect to its input.

    Args:
        w: int16 (kernel height, kernel width, channels, filters).
        x_shape: (batch, height, width, channels).
        strides: int, for both axes.
        padding: "valid" or "same".

    Returns:
        list of `Reduction`, one for each phase of the strides that any tap reaches.
    """
    taps = [_phase_taps(x_shape[1 + i], w.shape[i], strides, padding) for i in (0, 1)]
    pixels = [[-(-(size - p) // strides) for p in range(strides)] for size in x_shape[1:3]]
    reductions = []
    for i, j in itertools.product(range(strides), repeat=2):
        rows = [
            np.concatenate([w[kh, kw].T for kw in taps[1][j]]) for kh in taps[0][i] if taps[1][j]
        ]
        if rows:
            reductions.append(_weights_reduction(rows, x_shape[0] * pixels[0][i] * pixels[1][j]))
    return reductions


def reduce_backward_weights(dy, w_shape):
    """Returns the reductions of a convolution's gradient with respect to its kernel.

    Args:
        dy: int16 (batch, output height, output width, filters).
        w_shape: (kernel height, kernel width, channels, filters).

    Returns:
        list of `Reduction`.
    """
    matrix = dy.reshape(-1, dy.shape[3])
    count = len(matrix)
    per_block = min(PIXELS_PER_BLOCK, count + count % 2)
    padded = np.pad(matrix, ((0, -count % per_block), (0, 0)))
    pair_sums = _sum_pairs(padded.reshape(-1, per_block, dy.shape[3]))
    blocks = len(pair_sums)
    pixels = np.full(blocks, per_block)
    pixels[-1] = count - (blocks - 1) * per_block
    return [_split_columns(pair_sums, pixels, math.prod(w_shape[:3]))]


def _weights_reduction(rows, pixels):
    """One reduction over rows of the kernel, each [length, columns] and padded to whole pairs."""
    pair_sums = [_sum_pairs(np.pad(row, ((0, len(row) % 2), (0, 0)))[None]) for row in rows]
    products = np.array([sum(map(len, rows))])
    return _split_columns(np.concatenate(pair_sums, axis=1), products, pixels)


def _sum_pairs(packed):
    """Sums of |B| over pairs, from [..., 2 * pairs, columns]."""
    magnitude = np.abs(packed.astype(np.int64))
    return magnitude.reshape(len(packed), -1, 2, packed.shape[2]).sum(axis=2)


def _split_columns(pair_sums, products, elements_per_column):
    """A `Reduction` with a schedule for each 64 columns of [blocks, pairs, columns]."""
    blocks, pairs, columns = pair_sums.shape
    width = min(COLUMNS_PER_SCHEDULE, columns)
    padded = np.pad(pair_sums, ((0, 0), (0, 0), (0, -columns % width)))
    parts = padded.shape[2] // width
    schedules = padded.reshape(blocks, pairs, parts, width).swapaxes(1, 2)
    used = np.full(parts, width)
    used[-1] = columns - (parts - 1) * width
    return Reduction(
        schedules.reshape(blocks * parts, pairs, width),
        np.repeat(products, parts),
        np.tile(used * elements_per_column, blocks),
    )


def _phase_taps(size, taps, stride, padding):
    """For each phase of an axis, the taps that reach it, in the order of the outputs they take."""
    pad_before = 0
    if padding == "same":
        outputs = -(-size // stride)
        pad_before = max((outputs - 1) * stride + taps - size, 0) // 2
    phases = range(stride)
    return [
        [t for t in reversed(range(taps)) if (p + pad_before - t) % stride == 0] for p in phases
    ]

"""Exact NumPy oracle of the dynamic-fixed-point arithmetic.

Written from the specification alone, not from the kernels. It has three layers:

* quantisation and down-conversion, bit for bit (``quantize``, ``downconvert``);
* the integer results by plain definition, in int64 (``forward``, ``backward_data``,
  ``backward_weights``), with any operands: absolute values give the sum of |a*b|;
* the documented flush schedule carried out in FP32 (``scheduled_forward``,
  ``scheduled_backward_data``, ``scheduled_matmul``), which the kernels must match bit for bit.

Operands of the scheduled functions are objects with ``data`` (int16) and ``exponent``, so that
a ``DFPTensor`` and this file's own ``Operand`` both fit.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

INT32_MAX = 2**31 - 1
MIN_EXPONENT = -128
MAX_EXPONENT = 126
NONFINITE_EXPONENT = 127
PAIRS_PER_STEP = 8
# Backward-weights: pixels of a block; most parts, and elements of dw that all parts may hold.
PIXELS_PER_BLOCK = 512
MOST_PARTS = 16
ELEMENTS_OF_ALL_PARTS = 2**20
COLUMNS_PER_BLOCK = 64
COLUMNS_PER_PANEL = 16
UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class Operand:
    """A tensor ``data * 2**exponent`` that uses none of the package's code."""

    data: np.ndarray
    exponent: int


@dataclass(frozen=True)
class Scheduled:
    """An FP32 result and, for each of its elements, how many flushes went into it."""

    result: np.ndarray
    flushes: np.ndarray


# --- quantisation ---------------------------------------------------------------------------


def round_magnitude(magnitude, rounding):
    """Round exact non-negative float64 values to integers by a deterministic mode."""
    whole = np.floor(magnitude)
    fraction = magnitude - whole
    if rounding == "nearest":
        return np.rint(magnitude)
    if rounding == "truncate":
        return whole
    if rounding == "biased":
        return whole + (fraction >= 0.25)
    raise ValueError(f"no deterministic rounding {rounding!r}")


def scaled_magnitude(x, bits):
    """Return ``(|x| * 2**-e as float64, e)`` for a finite float32 array that is not all zero."""
    magnitude = np.abs(x.astype(np.float64))
    floor_log2 = int(np.frexp(magnitude.max())[1]) - 1
    exponent = min(max(floor_log2 - (bits - 1), MIN_EXPONENT), MAX_EXPONENT)
    return np.ldexp(magnitude, -exponent), exponent


def quantize(x, bits=15, rounding="nearest"):
    """Quantise a float32 array; every step is exact in float64."""
    if not np.isfinite(x).all():
        return Operand(np.zeros(x.shape, np.int16), NONFINITE_EXPONENT)
    if not x.any():
        return Operand(np.zeros(x.shape, np.int16), 0)
    magnitude, exponent = scaled_magnitude(x, bits)
    rounded = np.minimum(round_magnitude(magnitude, rounding), 2**bits - 1)
    return Operand(np.where(np.signbit(x), -rounded, rounded).astype(np.int16), exponent)


def downconversion_shift(data, exponent, bits):
    """Return the right shift ``Rs`` of INT32 values, gradual underflow included."""
    largest = int(np.abs(data.astype(np.int64)).max(initial=0))
    shift = max(largest.bit_length() - bits, 0)
    return max(shift, MIN_EXPONENT - exponent)


def downconvert(data, exponent, bits=15, rounding="nearest"):
    """Down-convert INT32 ``data * 2**exponent`` to INT16."""
    shift = downconversion_shift(data, exponent, bits)
    if exponent + shift > MAX_EXPONENT:
        return Operand(np.zeros(data.shape, np.int16), NONFINITE_EXPONENT)
    magnitude = np.ldexp(np.abs(data.astype(np.float64)), -shift)
    rounded = np.minimum(round_magnitude(magnitude, rounding), 2**bits - 1)
    return Operand(np.where(data < 0, -rounded, rounded).astype(np.int16), exponent + shift)


def scale(values, exponent):
    """``ldexp`` to FP32: exact in range, Inf above it, one rounding where it underflows."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values.astype(np.float64), exponent).astype(np.float32)


# --- exact integer results by definition ----------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One spatial axis: input position = output * stride + tap * dilation - pad_before."""

    size: int
    taps: int
    stride: int
    dilation: int
    padding: str

    @property
    def extent(self):
        return (self.taps - 1) * self.dilation + 1

    @property
    def outputs(self):
        if self.padding == "same":
            return -(-self.size // self.stride)
        return (self.size - self.extent) // self.stride + 1

    @property
    def pad_before(self):
        if self.padding == "valid":
            return 0
        return max((self.outputs - 1) * self.stride + self.extent - self.size, 0) // 2

    @property
    def padded_size(self):
        reach = (self.outputs - 1) * self.stride + self.extent
        return max(reach, self.pad_before + self.size)

    def window(self, tap):
        """Positions in the padded input that ``tap`` meets, one for each output."""
        start = tap * self.dilation
        return slice(start, start + (self.outputs - 1) * self.stride + 1, self.stride)


def pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def axes(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1):
    """Return the two spatial axes of an NHWC input under an HWIO kernel."""
    steps, dilations = pair(strides), pair(dilation_rate)
    return tuple(
        Axis(input_shape[1 + i], kernel_shape[i], steps[i], dilations[i], padding) for i in (0, 1)
    )


def output_shape(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    rows, columns = axes(input_shape, kernel_shape, strides, padding, dilation_rate)
    return (input_shape[0], rows.outputs, columns.outputs, kernel_shape[3])


def split_groups(array, groups):
    """Split the last dimension into (groups, channels of a group)."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def pad_input(x, rows, columns):
    padded = np.zeros((x.shape[0], rows.padded_size, columns.padded_size, x.shape[3]), np.int64)
    padded[inner(rows, columns)] = x
    return padded


def inner(rows, columns):
    """Index of the unpadded part of a padded input."""
    return (
        slice(None),
        slice(rows.pad_before, rows.pad_before + rows.size),
        slice(columns.pad_before, columns.pad_before + columns.size),
    )


def forward(x, w, strides=1, padding="valid", dilation_rate=1, groups=1):
    """Integer convolution, NHWC by HWIO, in int64."""
    rows, columns = axes(x.shape, w.shape, strides, padding, dilation_rate)
    padded = split_groups(pad_input(x, rows, columns), groups)
    kernel = split_groups(w.astype(np.int64), groups)
    y = np.zeros((x.shape[0], rows.outputs, columns.outputs, groups, kernel.shape[-1]), np.int64)
    for kh, kw in np.ndindex(w.shape[:2]):
        window = padded[:, rows.window(kh), columns.window(kw)]
        y += np.einsum("nhwgi,igo->nhwgo", window, kernel[kh, kw])
    return y.reshape(*y.shape[:3], w.shape[3])


def backward_data(dy, w, input_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    """Gradient of the integer convolution with respect to its input, in int64."""
    rows, columns = axes(input_shape, w.shape, strides, padding, dilation_rate)
    gradient = split_groups(dy.astype(np.int64), groups)
    kernel = split_groups(w.astype(np.int64), groups)
    padded = split_groups(pad_input(np.zeros(input_shape, np.int64), rows, columns), groups)
    for kh, kw in np.ndindex(w.shape[:2]):
        window = padded[:, rows.window(kh), columns.window(kw)]
        window += np.einsum("nhwgo,igo->nhwgi", gradient, kernel[kh, kw])
    return padded.reshape(*padded.shape[:3], input_shape[3])[inner(rows, columns)]


def backward_weights(x, dy, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    """Gradient of the integer convolution with respect to its kernel, in int64."""
    rows, columns = axes(x.shape, kernel_shape, strides, padding, dilation_rate)
    padded = split_groups(pad_input(x, rows, columns), groups)
    gradient = split_groups(dy.astype(np.int64), groups)
    dw = np.zeros((*kernel_shape[:3], groups, kernel_shape[3] // groups), np.int64)
    for kh, kw in np.ndindex(*kernel_shape[:2]):
        window = padded[:, rows.window(kh), columns.window(kw)]
        dw[kh, kw] = np.einsum("nhwgi,nhwgo->igo", window, gradient)
    return dw.reshape(kernel_shape)


def oriented(matrix, transpose):
    return matrix.T if transpose else matrix


def matmul(a, b, transpose_a=False, transpose_b=False):
    """Integer matrix product in int64."""
    return oriented(a, transpose_a).astype(np.int64) @ oriented(b, transpose_b).astype(np.int64)


# --- the flush schedule ---------------------------------------------------------------------


def largest_magnitude(data):
    return int(np.abs(data.astype(np.int64)).max(initial=0))


def fixed_schedule(pairs, flush_every):
    """Run ends, in pairs, when INT32 sums are flushed every ``flush_every`` products."""
    return [*range(flush_every // 2, pairs, flush_every // 2), pairs] if pairs else []


class GreedySchedule:
    """Run ends, in pairs, proven safe for one block of columns.

    Steps of eight pairs are added to the current run while max|A| times the column sums of |B|
    stay within INT32; a step that does not fit into an empty run is added pair by pair.
    """

    def __init__(self, packed, max_a):
        magnitude = np.abs(packed.astype(np.int64))
        self.pair_sums = magnitude.reshape(-1, 2, packed.shape[1]).sum(axis=1)
        self.limit = INT32_MAX // max_a if max_a else None
        self.ends = []
        self.start = 0
        self.sums = np.zeros(packed.shape[1], np.int64)
        self._build()

    def _build(self):
        count = len(self.pair_sums)
        for first in range(0, count, PAIRS_PER_STEP):
            last = min(first + PAIRS_PER_STEP, count)
            if self._fits(self.pair_sums[first:last].sum(axis=0)):
                self._append(first, last)
            else:
                self._flush(first)
                for position in range(first, last):
                    self._append(position, position + 1)
        if count:
            self.ends.append(count)

    def _fits(self, sums):
        return self.limit is None or bool((sums <= self.limit).all())

    def _append(self, first, last):
        added = self.pair_sums[first:last].sum(axis=0)
        if not self._fits(self.sums + added):
            self._flush(first)
        self.sums = self.sums + added

    def _flush(self, position):
        if position > self.start:
            self.ends.append(position)
        self.start = position
        self.sums = np.zeros_like(self.sums)


def schedule(packed, max_a, flush_every=None):
    """Run ends, in pairs, for a packed operand [2 * pairs, columns of one block]."""
    if flush_every is not None:
        return fixed_schedule(len(packed) // 2, flush_every)
    return GreedySchedule(packed, max_a).ends


def column_blocks(columns):
    return [
        slice(first, min(first + COLUMNS_PER_BLOCK, columns))
        for first in range(0, columns, COLUMNS_PER_BLOCK)
    ]


def accumulate(a, packed, ends, tile):
    """Add the runs to an FP32 tile: INT32 inside a run (checked), FP32 from run to run."""
    start = 0
    for end in ends:
        run = slice(2 * start, 2 * end)
        # float64 holds every partial sum exactly: no product exceeds 2**30, no run has 2**23.
        largest_sum = (np.abs(a[:, run]) @ np.abs(packed[run])).max(initial=0)
        assert largest_sum <= INT32_MAX, "the schedule would let an INT32 sum overflow"
        tile += (a[:, run] @ packed[run]).astype(np.float32)
        start = end


def join_segments(segments, pixels, columns):
    """Concatenate (A, B) segments along K, each padded with a zero to an even length."""
    parts_a, parts_b = [np.zeros((pixels, 0))], [np.zeros((0, columns))]
    for a, b in segments:
        odd = a.shape[1] % 2
        parts_a.append(np.pad(a.astype(np.float64), ((0, 0), (0, odd))))
        parts_b.append(np.pad(b.astype(np.float64), ((0, odd), (0, 0))))
    return np.concatenate(parts_a, axis=1), np.concatenate(parts_b, axis=0)


def add_product(a, packed, max_a, flush_every, tile, flushes):
    """Add the product of [pixels, K] by [K, columns] to an FP32 tile, and flushes per column."""
    for block in column_blocks(packed.shape[1]):
        ends = schedule(packed[:, block], max_a, flush_every)
        accumulate(a, packed[:, block], ends, tile[:, block])
        flushes[block] += len(ends)


def scheduled_gemm(a, packed, max_a, flush_every):
    """Return the unscaled FP32 product of [pixels, K] by [K, columns] and flushes per column."""
    tile = np.zeros((a.shape[0], packed.shape[1]), np.float32)
    flushes = np.zeros(packed.shape[1], np.int64)
    add_product(a, packed, max_a, flush_every, tile, flushes)
    return tile, flushes


def scheduled(left, right, shape, compute):
    """Add what all scheduled operations share: the non-finite case, scaling by 2**(ea + eb)."""
    if NONFINITE_EXPONENT in (left.exponent, right.exponent):
        return Scheduled(np.full(shape, np.nan, np.float32), np.zeros(shape, np.int64))
    tile, flushes = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    compute(tile, flushes)
    return Scheduled(scale(tile, left.exponent + right.exponent), flushes)


def merge_taps(taps):
    """Make one segment of several neighbouring taps."""
    return np.concatenate([a for a, _ in taps], axis=1), np.concatenate([b for _, b in taps])


def forward_segments(padded, kernel, rows, columns):
    """Segments of the forward convolution, for one group.

    ``padded`` is [N, H, W, CI of the group] with padding, ``kernel`` [KH, KW, CI of the group, CO].
    """
    for kh in range(rows.taps):
        taps = [
            (
                padded[:, rows.window(kh), columns.window(kw)].reshape(-1, padded.shape[-1]),
                kernel[kh, kw],
            )
            for kw in range(columns.taps)
        ]
        yield from [merge_taps(taps)] if columns.dilation == 1 else taps


def scheduled_forward(
    x, w, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
):
    """The forward convolution with its flush schedule carried out in FP32."""
    rows, columns = axes(x.data.shape, w.data.shape, strides, padding, dilation_rate)
    shape = output_shape(x.data.shape, w.data.shape, strides, padding, dilation_rate)
    padded = split_groups(pad_input(x.data, rows, columns), groups)
    kernel = split_groups(w.data, groups)
    max_a = largest_magnitude(x.data)
    pixels = shape[0] * shape[1] * shape[2]

    def compute(tile, flushes):
        for group in range(groups):
            of_group = padded[..., group, :], kernel[..., group, :]
            segments = forward_segments(*of_group, rows, columns)
            a, packed = join_segments(segments, pixels, kernel.shape[-1])
            sums, counts = scheduled_gemm(a, packed, max_a, flush_every)
            split_groups(tile, groups)[..., group, :] = sums.reshape(*shape[:3], kernel.shape[-1])
            split_groups(flushes, groups)[..., group, :] = counts

    return scheduled(x, w, shape, compute)


def phase_taps(axis, phase):
    """Taps that reach input positions ``phase, phase + stride, ...``, as (offset, tap) ascending.

    Such a position, the ``i``-th of its phase, receives output ``i + offset`` through ``tap``.
    """
    taps = []
    for tap in range(axis.taps):
        offset, rest = divmod(phase + axis.pad_before - tap * axis.dilation, axis.stride)
        if rest == 0:
            taps.append((offset, tap))
    return sorted(taps)


def shifted(gradient, axis_index, positions):
    """Take ``positions`` along an axis, zero where they are outside."""
    size = gradient.shape[axis_index]
    inside = (positions >= 0) & (positions < size)
    taken = np.take(gradient, np.clip(positions, 0, max(size - 1, 0)), axis=axis_index)
    mask_shape = [1] * gradient.ndim
    mask_shape[axis_index] = len(positions)
    return taken * inside.reshape(mask_shape)


def phase_segments(gradient, kernel, rows, columns, phase):
    """Segments of one phase of backward-data, for one group.

    ``gradient`` is [N, OH, OW, CO of the group], ``kernel`` [KH, KW, CI of the group, CO of it].
    """
    row_index = np.arange(-(-(rows.size - phase[0]) // rows.stride))
    column_index = np.arange(-(-(columns.size - phase[1]) // columns.stride))
    pixels = gradient.shape[0] * len(row_index) * len(column_index)
    column_taps = phase_taps(columns, phase[1])
    offsets = [offset for offset, _ in column_taps]
    consecutive = all(right - left == 1 for left, right in pairwise(offsets))
    for row_offset, kh in phase_taps(rows, phase[0]):
        lines = shifted(gradient, 1, row_index + row_offset)
        taps = [
            (
                shifted(lines, 2, column_index + offset).reshape(pixels, gradient.shape[3]),
                kernel[kh, kw].T,
            )
            for offset, kw in column_taps
        ]
        yield from [merge_taps(taps)] if taps and consecutive else taps


def cell_offsets(axis, cell):
    """Offsets at which outputs reach any of the input positions 0 ... cell - 1, ascending."""
    return sorted({offset for position in range(cell) for offset, _ in phase_taps(axis, position)})


def choose_cell(rows, columns, channels, groups):
    """Return the cell of input pixels that backward-data computes as one, or None for phases."""
    if groups > 1:
        return None

    def panels(count):
        return -(-count // COLUMNS_PER_PANEL)

    area = rows.stride * columns.stride
    limit = Fraction(3 * rows.taps * columns.taps * panels(channels), 4 * area)
    best = None
    for times in ((1, 1), (1, 2), (2, 1), (2, 2)):
        cell = (times[0] * rows.stride, times[1] * columns.stride)
        pixels = cell[0] * cell[1]
        taps = len(cell_offsets(rows, cell[0])) * len(cell_offsets(columns, cell[1]))
        cost = Fraction(taps * panels(pixels * channels), pixels)
        if pixels * channels <= COLUMNS_PER_BLOCK and cost < limit:
            best, limit = cell, cost
    return best


def cell_segments(gradient, kernel, rows, columns, cell):
    """Segments of backward-data by cells; the columns of B are (row, column, channel) of a cell."""
    counts = [-(-axis.size // size) for axis, size in zip((rows, columns), cell, strict=True)]
    steps = [size // axis.stride for axis, size in zip((rows, columns), cell, strict=True)]
    pixels = gradient.shape[0] * counts[0] * counts[1]
    column_offsets = cell_offsets(columns, cell[1])
    consecutive = all(right - left == 1 for left, right in pairwise(column_offsets))
    for row_offset in cell_offsets(rows, cell[0]):
        lines = shifted(gradient, 1, np.arange(counts[0]) * steps[0] + row_offset)
        taps = []
        for offset in column_offsets:
            a = shifted(lines, 2, np.arange(counts[1]) * steps[1] + offset)
            b = np.zeros((kernel.shape[3], *cell, kernel.shape[2]), np.int64)
            for i, j in np.ndindex(*cell):
                kh = dict(phase_taps(rows, i)).get(row_offset)
                kw = dict(phase_taps(columns, j)).get(offset)
                if kh is not None and kw is not None:
                    b[:, i, j] = kernel[kh, kw].T
            taps.append((a.reshape(pixels, -1), b.reshape(len(b), -1)))
        yield from [merge_taps(taps)] if consecutive else taps


def add_cells(tile, flushes, cell, segments, max_a, flush_every):
    """Compute backward-data by cells into ``tile``, and its flushes."""
    counts = [-(-size // edge) for size, edge in zip(tile.shape[1:3], cell, strict=True)]
    whole = (tile.shape[0], *counts, *cell, tile.shape[3])
    operands = join_segments(segments, int(np.prod(whole[:3])), int(np.prod(whole[3:])))
    sums, per_column = scheduled_gemm(*operands, max_a, flush_every)
    for target, values in ((tile, sums), (flushes, np.broadcast_to(per_column, sums.shape))):
        image = values.reshape(whole).transpose(0, 1, 3, 2, 4, 5)
        image = image.reshape(tile.shape[0], counts[0] * cell[0], counts[1] * cell[1], -1)
        target[:] = image[:, : tile.shape[1], : tile.shape[2]]


def scheduled_backward_data(
    dy, w, input_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
):
    """Backward-data with its flush schedule, phase by phase or by cells, carried out in FP32."""
    rows, columns = axes(input_shape, w.data.shape, strides, padding, dilation_rate)
    gradient = split_groups(dy.data.astype(np.int64), groups)
    kernel = split_groups(w.data, groups)
    max_a = largest_magnitude(dy.data)
    cell = choose_cell(rows, columns, input_shape[3], groups)

    def compute_phase(tile, flushes, phase, group):
        steps = (rows.stride, columns.stride)
        slices = (slice(p, None, s) for p, s in zip(phase, steps, strict=True))
        every = (slice(None), *slices, group)
        target = split_groups(tile, groups)[every]
        segments = phase_segments(
            gradient[..., group, :], kernel[..., group, :], rows, columns, phase
        )
        operands = join_segments(segments, int(np.prod(target.shape[:3])), target.shape[3])
        sums, counts = scheduled_gemm(*operands, max_a, flush_every)
        split_groups(tile, groups)[every] = sums.reshape(target.shape)
        split_groups(flushes, groups)[every] = counts

    def compute(tile, flushes):
        if cell:
            segments = cell_segments(gradient[..., 0, :], kernel[..., 0, :], rows, columns, cell)
            add_cells(tile, flushes, cell, segments, max_a, flush_every)
            return
        phases = (min(rows.stride, rows.size), min(columns.stride, columns.size))
        for *phase, group in np.ndindex(*phases, groups):
            compute_phase(tile, flushes, phase, group)

    return scheduled(dy, w, tuple(input_shape), compute)


def scheduled_matmul(a, b, transpose_a=False, transpose_b=False, flush_every=None):
    """The matrix product with its flush schedule carried out in FP32."""
    left, right = oriented(a.data, transpose_a), oriented(b.data, transpose_b)
    shape = (left.shape[0], right.shape[1])

    def compute(tile, flushes):
        operands = join_segments([(left, right)], *shape)
        tile[:], flushes[:] = scheduled_gemm(*operands, largest_magnitude(left), flush_every)

    return scheduled(a, b, shape, compute)


def gap_between_rows(columns):
    """Return the number of zero pixels that backward-weights counts between two output rows.

    The columns that taps read, of one residue modulo the stride, are consecutive; a row's last
    zeros may serve as the next one's first zeros.
    """
    reach = (columns.taps - 1) * columns.dilation // columns.stride
    values, shared = columns.outputs + reach, reach
    for phase in range(columns.stride):
        positions = phase + columns.stride * np.arange(values) - columns.pad_before
        leading = int((positions < 0).sum())
        trailing = int((positions >= columns.size).sum()) if leading < values else 0
        shared = min(shared, leading, trailing)
    return reach - shared


def pixel_sequences(windows, gradient, first, end, image_rows, gap):
    """Yield (A, B) for the output rows [first, end), of each image they touch one sequence."""
    while first < end:
        last = min(end, (first // image_rows + 1) * image_rows)
        a = np.pad(windows[:, first:last], ((0, 0), (0, 0), (0, gap)))
        b = np.pad(gradient[first:last], ((0, 0), (0, gap), (0, 0)))
        length = a.shape[1] * a.shape[2] - gap
        yield a.reshape(len(a), -1)[:, :length], b.reshape(-1, b.shape[2])[:length]
        first = last


def reduction_blocks(windows, gradient, image_rows, gap):
    """Yield (A, B) of each block of the reduction over output pixels.

    ``windows`` is [rows of dw, output rows of the batch, pixels of a row], ``gradient`` is [output
    rows of the batch, pixels of a row, columns]. There are ``gap`` zeros between two rows of an
    image; a ``gap`` of None means a 1x1 convolution without padding, which is cut anywhere between
    pixels; any other one is cut between output rows and restarts with each image.
    """
    if gap is None:
        windows = windows.reshape(len(windows), -1, 1)
        gradient = gradient.reshape(-1, 1, gradient.shape[2])
        image_rows, gap = windows.shape[1], 0
    per_block = max(1, PIXELS_PER_BLOCK // windows.shape[2])
    for first in range(0, windows.shape[1], per_block):
        end = min(first + per_block, windows.shape[1])
        segments = list(pixel_sequences(windows, gradient, first, end, image_rows, gap))
        yield join_segments(segments, len(windows), gradient.shape[2])


def sum_parts(blocks, elements, shape, max_a, flush_every):
    """Add the blocks of each part in FP32, then the parts; return sums and flushes per column."""
    count = min(len(blocks), MOST_PARTS, max(1, ELEMENTS_OF_ALL_PARTS // elements))
    total, flushes = np.zeros(shape, np.float32), np.zeros(shape[1], np.int64)
    for part in range(count):
        tile = np.zeros(shape, np.float32)
        first, end = part * len(blocks) // count, (part + 1) * len(blocks) // count
        for a, packed in blocks[first:end]:
            add_product(a, packed, max_a, flush_every, tile, flushes)
        total += tile
    return total, flushes + count


def scheduled_backward_weights(
    x, dy, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
):
    """Backward-weights with its blocks, flush schedules and parts carried out in FP32."""
    rows, columns = axes(x.data.shape, kernel_shape, strides, padding, dilation_rate)
    padded = split_groups(pad_input(x.data, rows, columns), groups)
    lines = (dy.data.shape[0] * rows.outputs, columns.outputs)
    gradient = split_groups(dy.data.reshape(*lines, -1), groups)
    by_pixel = rows.taps == columns.taps == 1 and rows.pad_before == columns.pad_before == 0
    gap = None if by_pixel else gap_between_rows(columns)
    elements, max_a = int(np.prod(kernel_shape)), largest_magnitude(x.data)

    def compute(tile, flushes):
        for group in range(groups):
            windows = [
                padded[:, rows.window(kh), columns.window(kw), group].reshape(*lines, -1)
                for kh, kw in np.ndindex(*kernel_shape[:2])
            ]
            windows = np.moveaxis(np.concatenate(windows, axis=2), 2, 0)
            blocks = list(reduction_blocks(windows, gradient[..., group, :], rows.outputs, gap))
            target = split_groups(tile, groups)[..., group, :]
            shape = (len(windows), target.shape[3])
            sums, counts = sum_parts(blocks, elements, shape, max_a, flush_every)
            target[:] = sums.reshape(target.shape)
            split_groups(flushes, groups)[..., group, :] = counts

    return scheduled(x, dy, tuple(kernel_shape), compute)


# --- comparing ------------------------------------------------------------------------------


def assert_same_bits(result, expected):
    """Fail unless two float32 arrays are equal bit for bit (any NaN equals any NaN)."""
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    different = result.view(np.int32) != expected.view(np.int32)
    different &= ~(np.isnan(result) & np.isnan(expected))
    if different.any():
        where = tuple(int(i) for i in np.argwhere(different)[0])
        raise AssertionError(
            f"{int(different.sum())} of {different.size} elements differ; first at {where}: "
            f"got {result[where]!r}, expected {expected[where]!r}"
        )


def assert_within_summation_bound(result, exact, magnitude, flushes, exponent):
    """Fail if |result - exact * 2**e| exceeds (flushes + 1) * 2**-24 * sum|a*b| * 2**e.

    Where no partial sum can need more than FP32's 24 bits, the result must be exact.
    """
    assert result.shape == exact.shape
    assert magnitude.max(initial=0) < 2**53, "float64 would round the exact result"
    error = np.abs(np.ldexp(result.astype(np.float64), -exponent) - exact)
    bound = (flushes + 1) * UNIT_ROUNDOFF * magnitude
    bound = np.where(magnitude <= 2**24, 0.0, bound)
    worst = np.argmax(error - bound) if error.size else None
    assert error.size == 0 or (error <= bound).all(), (
        f"element {np.unravel_index(worst, error.shape)}: error {error.flat[worst]} of "
        f"{exact.flat[worst]}, bound {np.broadcast_to(bound, error.shape).flat[worst]}"
    )

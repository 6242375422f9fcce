"""Oracle of pooling, concatenation, padding and cropping, written only from their specification.

Integers in int64, exact; where the specification names FP32 operations and their order they are
carried out, and the kernels must match them to the last bit. Operands are `reference.Operand`.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from reference import Operand
from reference_batch_norm import exponent_of, values

MAX_EXPONENT = 126


@dataclass(frozen=True)
class Pooling:
    """What to pool: pairs for height and width."""

    pool_size: tuple
    strides: tuple
    padding: str

    def axis(self, number, size):
        """[(first pixel of the whole window, range of its pixels that exist)] of one axis."""
        pool, stride = self.pool_size[number], self.strides[number]
        if self.padding == "valid":
            count, before = (size - pool) // stride + 1, 0
        else:
            count = -(-size // stride)
            before = max((count - 1) * stride + pool - size, 0) // 2
        starts = [o * stride - before for o in range(count)]
        return [(start, range(max(start, 0), min(start + pool, size))) for start in starts]

    def windows(self, shape):
        """((row, column) of the result, rows, columns) of each window."""
        axes = [list(enumerate(self.axis(i, size))) for i, size in enumerate(shape[1:3])]
        for (i, (_, rows)), (j, (_, columns)) in itertools.product(*axes):
            yield (i, j), rows, columns

    def output_shape(self, shape):
        return shape[0], *(len(self.axis(i, shape[1 + i])) for i in range(2)), shape[3]

    def most_windows(self, shape):
        """The largest number of windows over one pixel, by the sizes alone."""
        outputs = self.output_shape(shape)[1:3]
        return np.prod(
            [
                min(-(-pool // stride), out)
                for pool, stride, out in zip(self.pool_size, self.strides, outputs, strict=True)
            ]
        )


def pixels(data, rows, columns):
    """The pixels of a window in row-major order, (batch, pixels, channels)."""
    window = data[:, rows.start : rows.stop, columns.start : columns.stop]
    return window.reshape(len(data), -1, data.shape[-1])


def rounded(numbers, bits):
    limit = 2**bits - 1
    return np.clip(np.rint(numbers), -limit, limit).astype(np.int16)


# --- maximum --------------------------------------------------------------------------------


def max_pool(x, pooling):
    y = np.empty(pooling.output_shape(x.data.shape), np.int16)
    for (i, j), rows, columns in pooling.windows(x.data.shape):
        y[:, i, j] = pixels(x.data, rows, columns).max(axis=1)
    return Operand(y, x.exponent)


def max_pool_sums(dy, x, pooling):
    """dx as int64 sums of dy."""
    sums = np.zeros(x.shape, np.int64)
    batch, channels = np.ogrid[: x.shape[0], : x.shape[3]]
    for (i, j), rows, columns in pooling.windows(x.shape):
        first = pixels(x, rows, columns).argmax(axis=1)
        row, column = np.divmod(first, len(columns))
        sums[batch, row + rows.start, column + columns.start, channels] += dy[:, i, j]
    return sums


def max_pool_gradient(dy, x, pooling, bits):
    """dx with the exponent that the largest possible sum needs."""
    most = int(np.abs(dy.data.astype(np.int64)).max(initial=0))
    shift = max((most * int(pooling.most_windows(x.shape))).bit_length() - bits, 0)
    sums = max_pool_sums(dy.data, x, pooling).astype(np.float32)
    return Operand(rounded(np.ldexp(sums, -shift), bits), dy.exponent + shift)


# --- average --------------------------------------------------------------------------------


def average_factors(pooling, shape, unit):
    """The FP32 factor of each window: unit / rows, times 1 / columns."""
    rows, columns = ([len(r) for _, r in pooling.axis(i, shape[1 + i])] for i in range(2))
    by_row = (np.float64(unit) / np.array(rows)).astype(np.float32)
    by_column = (1 / np.array(columns, np.float64)).astype(np.float32)
    return by_row[:, None] * by_column


def largest(operand):
    return np.abs(values(operand)).max(initial=0)


def average_pool(x, pooling, bits):
    shape = x.data.shape
    exponent = exponent_of(largest(x), bits)
    factors = average_factors(pooling, shape, np.ldexp(1.0, x.exponent - exponent))
    y = np.empty(pooling.output_shape(shape), np.int16)
    for (i, j), rows, columns in pooling.windows(shape):
        sums = pixels(x.data.astype(np.int64), rows, columns).sum(axis=1)
        y[:, i, j] = rounded(sums.astype(np.float32) * factors[i, j], bits)
    return Operand(y, exponent)


def exact_average(x, pooling):
    """In float64."""
    y = np.empty(pooling.output_shape(x.data.shape))
    for (i, j), rows, columns in pooling.windows(x.data.shape):
        y[:, i, j] = pixels(values(x), rows, columns).mean(axis=1)
    return y


def average_share(pooling, shape):
    """The largest sum of 1 / pixels over the windows that hold one pixel."""
    shares = []
    for i in range(2):
        share = np.zeros(shape[1 + i])
        for _, window in pooling.axis(i, shape[1 + i]):
            share[window.start : window.stop] += 1 / len(window)
        shares.append(share.max())
    return shares[0] * shares[1]


def average_pool_gradient(dy, shape, pooling, bits):
    exponent = exponent_of(largest(dy) * average_share(pooling, shape), bits)
    factors = average_factors(pooling, shape, np.ldexp(1.0, dy.exponent - exponent))
    sums = np.zeros(shape, np.float32)
    for (i, j), rows, columns in pooling.windows(shape):
        share = dy.data[:, i, j].astype(np.float32) * factors[i, j]
        sums[:, rows.start : rows.stop, columns.start : columns.stop] += share[:, None, None]
    return Operand(rounded(sums, bits), exponent)


def exact_average_gradient(dy, shape, pooling):
    """In float64."""
    dx = np.zeros(shape)
    for (i, j), rows, columns in pooling.windows(shape):
        share = values(dy)[:, i, j] / (len(rows) * len(columns))
        dx[:, rows.start : rows.stop, columns.start : columns.stop] += share[:, None, None]
    return dx


# --- data movement --------------------------------------------------------------------------


def concatenate(operands, axis, bits):
    """Operands may be float32 arrays; empty ones have no influence."""
    bound = max(np.abs(values(operand)).max(initial=0) for operand in operands)
    exponent = exponent_of(bound, bits)
    used = [operand for operand in operands if values(operand).size]
    if bound > 0 and all(isinstance(operand, Operand) for operand in used):
        exponents = [operand.exponent for operand in used if operand.data.any()]
        exponent = max(exponent, min(exponents))
    joined = np.concatenate([values(operand) for operand in operands], axis)
    return Operand(rounded(np.ldexp(joined, -exponent), bits), exponent)

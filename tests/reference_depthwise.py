"""Oracle of the depthwise convolution: exact integers, and the flush schedule to the last bit.

A depthwise convolution is a grouped one with a group for each channel, whose exact results
`reference` has. Which products share one INT32 sum differs, and is defined here.
"""

import numpy as np
import reference
from reference import Operand

#: Elements of the gradient in a part of backward_weights, and the largest number of parts.
PART, MOST_PARTS = 64 << 10, 64
#: Pairs of pixels in one INT32 sum, at most.
RUN_PAIRS = 8


def grouped(kernel):
    """Weights (KH, KW, channels, multiplier) as those of a convolution with grouped channels."""
    return kernel.reshape(*kernel.shape[:2], 1, -1)


def options_of(channels, strides, padding, dilation_rate):
    return {
        "strides": strides,
        "padding": padding,
        "dilation_rate": dilation_rate,
        "groups": channels,
    }


def repeated(x, multiplier):
    return Operand(np.repeat(x.data, multiplier, axis=3), x.exponent)


def even_rows(matrix):
    return np.concatenate([matrix, np.zeros((len(matrix) % 2, *matrix.shape[1:]), matrix.dtype)])


def sum_of_taps(pixels, weights, max_pixel):
    """FP32 sums over taps: pixels [taps, ..., channels], weights [taps, channels]."""
    total = np.zeros(pixels.shape[1:], np.float32)
    pixels, weights = even_rows(pixels.astype(np.int64)), even_rows(weights.astype(np.int64))
    for block in reference.column_blocks(weights.shape[1]):
        first = 0
        for end in reference.schedule(weights[:, block], max_pixel):
            run = slice(2 * first, 2 * end)
            products = pixels[run, ..., block] * weights[run, None, None, None, block]
            total[..., block] += products.sum(axis=0).astype(np.float32)
            first = end
    return total


def scheduled_forward(x, w, strides, padding, dilation_rate, bias=None):
    x = repeated(x, w.data.shape[3])
    rows, columns = reference.axes(x.data.shape, w.data.shape, strides, padding, dilation_rate)
    padded = reference.pad_input(x.data, rows, columns)
    taps = list(np.ndindex(w.data.shape[:2]))
    pixels = np.stack([padded[:, rows.window(kh), columns.window(kw)] for kh, kw in taps])
    weights = w.data.reshape(len(taps), -1)
    total = sum_of_taps(pixels, weights, reference.largest_magnitude(x.data))
    y = reference.scale(total, x.exponent + w.exponent)
    return y if bias is None else y + bias


def scheduled_backward_data(dy, w, input_shape, strides, padding, dilation_rate):
    rows, columns = reference.axes(input_shape, w.data.shape, strides, padding, dilation_rate)
    channels, multiplier = w.data.shape[2:]
    dx = np.zeros((*input_shape[:3], channels * multiplier), np.float32)
    for phase in np.ndindex(rows.stride, columns.stride):
        target = dx[:, phase[0] :: rows.stride, phase[1] :: columns.stride]
        taps = [
            (row, column)
            for row in reference.phase_taps(rows, phase[0])
            for column in reference.phase_taps(columns, phase[1])
        ]
        if not taps or not target.size:
            continue
        row_index, column_index = (np.arange(size) for size in target.shape[1:3])
        pixels = [
            reference.shifted(
                reference.shifted(dy.data, 1, row_index + row[0]), 2, column_index + column[0]
            )
            for row, column in taps
        ]
        weights = [w.data[row[1], column[1]].reshape(-1) for row, column in taps]
        largest = reference.largest_magnitude(dy.data)
        target[:] = sum_of_taps(np.stack(pixels), np.stack(weights), largest)
    copies = reference.scale(dx, dy.exponent + w.exponent)
    copies = copies.reshape(*input_shape[:3], channels, multiplier)
    total = copies[..., 0]
    for copy in range(1, multiplier):
        total = total + copies[..., copy]
    return total


def runs_of(gradient, max_x, first, pairs):
    """The pairs [first, first + pairs) cut into safe runs; gradient [pairs, 2, channels]."""
    sums = np.abs(gradient[first : first + pairs].astype(np.int64)).sum(axis=(0, 1))
    if pairs == 1 or max_x * sums.max() <= reference.INT32_MAX:
        return [slice(first, first + pairs)]
    half = pairs // 2
    return [
        *runs_of(gradient, max_x, first, half),
        *runs_of(gradient, max_x, first + half, pairs - half),
    ]


def add_row(sums, pixels, gradient, max_x):
    """Adds one row of the gradient, [width, channels], to sums [taps, channels]."""
    gradient = even_rows(gradient).reshape(-1, 2, gradient.shape[1])
    pixels = np.stack([even_rows(tap) for tap in pixels]).astype(np.int64)
    pixels = pixels.reshape(len(pixels), *gradient.shape)
    for block in reference.column_blocks(gradient.shape[2]):
        for first in range(0, len(gradient), RUN_PAIRS):
            pairs = min(RUN_PAIRS, len(gradient) - first)
            for run in runs_of(gradient[:, :, block], max_x, first, pairs):
                products = pixels[:, run, :, block] * gradient[run, :, block].astype(np.int64)
                sums[:, block] += products.sum(axis=(1, 2)).astype(np.float32)


def scheduled_backward_weights(x, dy, kernel_shape, strides, padding, dilation_rate):
    x = repeated(x, kernel_shape[3])
    rows, columns = reference.axes(x.data.shape, kernel_shape, strides, padding, dilation_rate)
    padded = reference.pad_input(x.data, rows, columns)
    taps = list(np.ndindex(*kernel_shape[:2]))
    windows = np.stack([padded[:, rows.window(kh), columns.window(kw)] for kh, kw in taps])
    images, height, width, channels = dy.data.shape
    windows = windows.reshape(len(taps), images * height, width, channels)
    gradient, max_x = dy.data.reshape(-1, width, channels), reference.largest_magnitude(x.data)
    per_part = max(PART // (width * channels), -(-images * height // MOST_PARTS))
    total = np.zeros((len(taps), channels))
    for first in range(0, images * height, per_part):
        sums = np.zeros(total.shape, np.float32)
        for row in range(first, min(first + per_part, images * height)):
            add_row(sums, windows[:, row], gradient[row], max_x)
        total += sums
    return reference.scale(total.astype(np.float32), x.exponent + dy.exponent).reshape(kernel_shape)

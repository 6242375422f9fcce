"""Oracle of convolutions of volumes: those of images for each plane, and the depth around them.

Written from docs/numerics.md: a volume's planes are images, and its taps come plane by plane.
"""

import numpy as np
import reference
from reference import Axis, Scheduled, largest_magnitude, split_groups


def triple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3


def axes(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1):
    """Return the depth, rows and columns of an NDHWC input under a DHWIO kernel."""
    steps, dilations = triple(strides), triple(dilation_rate)
    return tuple(
        Axis(input_shape[1 + i], kernel_shape[i], steps[i], dilations[i], padding) for i in range(3)
    )


def output_shape(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    outputs = (
        axis.outputs for axis in axes(input_shape, kernel_shape, strides, padding, dilation_rate)
    )
    return (input_shape[0], *outputs, kernel_shape[4])


def in_plane(strides, padding, dilation_rate, groups):
    return triple(strides)[1:], padding, triple(dilation_rate)[1:], groups


def as_images(x):
    return x.reshape(-1, *x.shape[2:])


def padded_depth(x, depth):
    """int64 volumes with zero planes before and after."""
    before = depth.pad_before
    after = depth.padded_size - before - depth.size
    return np.pad(x.astype(np.int64), ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))


# --- exact integer results: sums over the depth of the kernel of those of images ----------------


def forward(x, w, strides=1, padding="valid", dilation_rate=1, groups=1):
    depth = axes(x.shape, w.shape, strides, padding, dilation_rate)[0]
    shape = output_shape(x.shape, w.shape, strides, padding, dilation_rate)
    padded, options = padded_depth(x, depth), in_plane(strides, padding, dilation_rate, groups)
    y = np.zeros(shape, np.int64)
    for tap in range(depth.taps):
        planes = as_images(padded[:, depth.window(tap)])
        y += reference.forward(planes, w[tap], *options).reshape(shape)
    return y


def backward_data(dy, w, input_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    depth = axes(input_shape, w.shape, strides, padding, dilation_rate)[0]
    padded = padded_depth(np.zeros(input_shape), depth)
    options = in_plane(strides, padding, dilation_rate, groups)
    image = (dy.shape[0] * dy.shape[1], *input_shape[2:])
    for tap in range(depth.taps):
        planes = padded[:, depth.window(tap)]
        planes += reference.backward_data(as_images(dy), w[tap], image, *options).reshape(
            planes.shape
        )
    return padded[:, depth.pad_before : depth.pad_before + depth.size]


def backward_weights(x, dy, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1):
    depth = axes(x.shape, kernel_shape, strides, padding, dilation_rate)[0]
    padded, options = padded_depth(x, depth), in_plane(strides, padding, dilation_rate, groups)
    dw = [
        reference.backward_weights(
            as_images(padded[:, depth.window(tap)]), as_images(dy), kernel_shape[1:], *options
        )
        for tap in range(depth.taps)
    ]
    return np.stack(dw)


# --- the flush schedule carried out in FP32 ------------------------------------------------------


def scheduled_forward(
    x, w, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
) -> Scheduled:
    depth, rows, columns = axes(x.data.shape, w.data.shape, strides, padding, dilation_rate)
    shape = output_shape(x.data.shape, w.data.shape, strides, padding, dilation_rate)
    volumes, kernel = padded_depth(x.data, depth), split_groups(w.data, groups)

    def segments(group):
        for tap in range(depth.taps):
            planes = as_images(volumes[:, depth.window(tap)])
            padded = split_groups(reference.pad_input(planes, rows, columns), groups)
            yield from reference.forward_segments(
                padded[..., group, :], kernel[tap, ..., group, :], rows, columns
            )

    def compute(tile, flushes):
        for group in range(groups):
            pixels, filters = int(np.prod(shape[:4])), kernel.shape[-1]
            a, packed = reference.join_segments(segments(group), pixels, filters)
            sums, counts = reference.scheduled_gemm(
                a, packed, largest_magnitude(x.data), flush_every
            )
            split_groups(tile, groups)[..., group, :] = sums.reshape(*shape[:4], filters)
            split_groups(flushes, groups)[..., group, :] = counts

    return reference.scheduled(x, w, shape, compute)


def scheduled_backward_data(
    dy, w, input_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
) -> Scheduled:
    depth, rows, columns = axes(input_shape, w.data.shape, strides, padding, dilation_rate)
    gradient = split_groups(dy.data.astype(np.int64), groups)
    kernel = split_groups(w.data, groups)
    cell = reference.choose_cell(rows, columns, input_shape[4], groups)
    max_a = largest_magnitude(dy.data)

    def segments(planes, phase, group, of_images):
        for offset, tap in reference.phase_taps(depth, phase):
            moved = reference.shifted(gradient[..., group, :], 1, np.arange(planes) + offset)
            yield from of_images(as_images(moved), kernel[tap, ..., group, :], rows, columns)

    def compute_cells(tile, flushes, phase):
        target = np.ascontiguousarray(as_images(tile[:, phase :: depth.stride]))
        counts = np.zeros(target.shape, np.int64)
        planes = tile[:, phase :: depth.stride].shape[1]
        parts = segments(planes, phase, 0, lambda *of: reference.cell_segments(*of, cell))
        reference.add_cells(target, counts, cell, parts, max_a, flush_every)
        for whole, part in ((tile, target), (flushes, counts)):
            whole[:, phase :: depth.stride] = part.reshape(whole[:, phase :: depth.stride].shape)

    def compute_phase(tile, flushes, phase, group):
        steps = (depth.stride, rows.stride, columns.stride)
        slices = (slice(p, None, s) for p, s in zip(phase, steps, strict=True))
        every = (slice(None), *slices, group)
        target = split_groups(tile, groups)[every]
        parts = segments(
            target.shape[1], phase[0], group, lambda *of: reference.phase_segments(*of, phase[1:])
        )
        operands = reference.join_segments(parts, int(np.prod(target.shape[:4])), target.shape[4])
        sums, counts = reference.scheduled_gemm(*operands, max_a, flush_every)
        split_groups(tile, groups)[every] = sums.reshape(target.shape)
        split_groups(flushes, groups)[every] = counts

    def compute(tile, flushes):
        for plane in range(min(depth.stride, depth.size)):
            if cell:
                compute_cells(tile, flushes, plane)
                continue
            phases = (min(rows.stride, rows.size), min(columns.stride, columns.size))
            for *phase, group in np.ndindex(*phases, groups):
                compute_phase(tile, flushes, (plane, *phase), group)

    return reference.scheduled(dy, w, tuple(input_shape), compute)


def scheduled_backward_weights(
    x, dy, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
) -> Scheduled:
    depth, rows, columns = axes(x.data.shape, kernel_shape, strides, padding, dilation_rate)
    volumes = padded_depth(x.data, depth)
    lines = (dy.data.shape[0] * depth.outputs * rows.outputs, columns.outputs)
    gradient = split_groups(dy.data.reshape(*lines, -1), groups)
    is_one_tap = depth.taps == rows.taps == columns.taps == 1
    is_padded = depth.pad_before or rows.pad_before or columns.pad_before
    gap = None if is_one_tap and not is_padded else reference.gap_between_rows(columns)
    elements, max_a = int(np.prod(kernel_shape)), largest_magnitude(x.data)

    def windows(group):
        for kd, kh, kw in np.ndindex(*kernel_shape[:3]):
            planes = as_images(volumes[:, depth.window(kd)])
            padded = split_groups(reference.pad_input(planes, rows, columns), groups)
            yield padded[:, rows.window(kh), columns.window(kw), group].reshape(*lines, -1)

    def compute(tile, flushes):
        for group in range(groups):
            a = np.moveaxis(np.concatenate(list(windows(group)), axis=2), 2, 0)
            of_group = gradient[..., group, :]
            blocks = list(reference.reduction_blocks(a, of_group, rows.outputs, gap))
            target = split_groups(tile, groups)[..., group, :]
            shape = (len(a), target.shape[4])
            sums, counts = reference.sum_parts(blocks, elements, shape, max_a, flush_every)
            target[:] = sums.reshape(target.shape)
            split_groups(flushes, groups)[..., group, :] = counts

    return reference.scheduled(x, dy, tuple(kernel_shape), compute)

"""Checks of the arguments of convolutions and poolings, and the sizes that follow."""

import typing

from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.runtime.argument_checks import check_integer, kind_of


def check_rank(name, value, rank):
    """A `DFPTensor` with this number of dimensions."""
    if not isinstance(value, DFPTensor):
        raise TypeError(f"{name}: expected a DFPTensor (dfpkeras.quantize), got {kind_of(value)}")
    if len(value.shape) != rank:
        raise ValueError(f"{name}: expected {rank} dimensions, got shape {value.shape}")
    return value


def check_shape(name, value, rank):
    """A tuple of `rank` sizes."""
    try:
        shape = tuple(check_integer(name, size) for size in value)
    except TypeError:
        raise TypeError(f"{name}: expected a tuple of {rank} integers, got {value!r}") from None
    if len(shape) != rank or min(shape) < 0:
        raise ValueError(f"{name}: expected {rank} sizes, none negative, got {shape}")
    return shape


_TUPLES = {2: "a pair", 3: "three of them"}


def check_sizes(name, value, count):
    """A tuple of `count` positive integers, from as many or from one integer for all."""
    values = value if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name}: expected an integer or {_TUPLES[count]}, got {value!r}")
    sizes = tuple(check_integer(name, v) for v in values)
    if min(sizes) < 1:
        raise ValueError(f"{name}: expected integers of at least 1, got {value!r}")
    return sizes


def check_padding(padding):
    if padding not in ("valid", "same"):
        raise ValueError(f"padding: expected 'valid' or 'same', got {padding!r}")
    return padding


def output_and_padding(size, kernel, stride, dilation, padding):
    """(output size, zeros before the first element) along one axis."""
    extent = (kernel - 1) * dilation + 1
    if padding == "valid":
        return (size - extent) // stride + 1, 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + extent - size, 0) // 2


def convolution_description(
    x_shape, x_name, w_shape, w_name, filters, strides, padding, dilation_rate, groups
):
    """The fields of the C structure dfp_conv, in its order, of images or volumes; flush_every is
    0."""
    batch, *size, channels = x_shape
    kernel = w_shape[: len(size)]
    strides = check_sizes("strides", strides, len(size))
    dilation_rate = check_sizes("dilation_rate", dilation_rate, len(size))
    check_padding(padding)
    if min(kernel) < 1 or min(size) < 1:
        raise ValueError(
            f"{x_name}, {w_name}: expected sizes of at least 1, got shapes {x_shape}, {w_shape}"
        )
    axes = [
        _Axis(length, *output_and_padding(length, *of_axis, padding), *of_axis)
        for length, *of_axis in zip(size, kernel, strides, dilation_rate, strict=True)
    ]
    if min(axis.out for axis in axes) < 1:
        raise ValueError(
            f"{x_name}: with padding='valid' expected at least the kernel's extent "
            f"{tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation_rate, strict=True))}, "
            f"got shape {x_shape}"
        )
    depth, height, width = (_ONE_PLANE,) * (3 - len(axes)) + tuple(axes)
    return {
        "batch": batch,
        "in_h": height.size,
        "in_w": width.size,
        "in_channels": channels,
        "out_h": height.out,
        "out_w": width.out,
        "out_channels": filters,
        "kernel_h": height.kernel,
        "kernel_w": width.kernel,
        "stride_h": height.stride,
        "stride_w": width.stride,
        "dilation_h": height.dilation,
        "dilation_w": width.dilation,
        "pad_top": height.pad,
        "pad_left": width.pad,
        "groups": groups,
        "flush_every": 0,
        "in_d": depth.size,
        "out_d": depth.out,
        "kernel_d": depth.kernel,
        "stride_d": depth.stride,
        "dilation_d": depth.dilation,
        "pad_front": depth.pad,
    }


class _Axis(typing.NamedTuple):
    """One spatial axis of a convolution."""

    size: int
    out: int
    pad: int
    kernel: int
    stride: int
    dilation: int


_ONE_PLANE = _Axis(size=1, out=1, pad=0, kernel=1, stride=1, dilation=1)


def planes_as_images(description):
    """The same convolution, of images if nothing is done along the depth: those have more
    algorithms."""
    d = description
    if not d["kernel_d"] == d["stride_d"] == 1:
        return d
    return d | {"batch": d["batch"] * d["in_d"], "in_d": 1, "out_d": 1, "dilation_d": 1}


def output_shape(description, rank=4):
    """The shape of the forward result, of images or, with a rank of 5, volumes."""
    sizes = ("out_d", "out_h", "out_w")[5 - rank :]
    return tuple(description[name] for name in ("batch", *sizes, "out_channels"))


def check_output(dy_shape, expected, name, shape):
    if dy_shape != expected:
        raise ValueError(
            f"dy: expected the shape {expected} of the forward result for {name}={shape}, "
            f"got {dy_shape}"
        )


def layer_output_shape(shape, window, strides, padding, dilation_rate, data_format, filters=None):
    """The shape of a convolution's or pooling's result, for images or sequences.

    Args:
        shape: shape of the input, with None for unknown sizes.
        window: tuple, the size of a kernel or pooling window.
        strides, dilation_rate: tuples like `window`.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first".
        filters: channels of the result, None for those of the input.

    Returns:
        tuple of ints and None.

    Raises:
        ValueError: the result would be empty in a spatial dimension.
    """
    channels_last = data_format == "channels_last"
    spatial = shape[1:-1] if channels_last else shape[2:]
    sizes = tuple(
        None if size is None else output_and_padding(size, *of_axis, padding)[0]
        for size, *of_axis in zip(spatial, window, strides, dilation_rate, strict=True)
    )
    if padding == "valid" and any(size is not None and size < 1 for size in sizes):
        raise ValueError(
            "Computed output size would be zero or negative. Received: "
            f"inputs.shape={shape}, window={window}, strides={strides}, "
            f"dilation_rate={dilation_rate}, padding={padding!r}"
        )
    channels = filters or shape[-1 if channels_last else 1]
    return (shape[0], *sizes, channels) if channels_last else (shape[0], channels, *sizes)


def transposed_sizes(sizes, window, strides, padding, output_padding, dilation_rate):
    """The spatial sizes of a transposed convolution's result, as Keras defines them.

    Args:
        sizes: sizes of the input, with None for unknown ones.
        window, strides, dilation_rate: tuples of as many ints.
        padding: "valid" or "same".
        output_padding: tuple of as many ints, or None.

    Returns:
        tuple of ints and None.
    """
    output_padding = (None,) * len(window) if output_padding is None else output_padding
    axes = zip(sizes, window, strides, output_padding, dilation_rate, strict=True)
    return tuple(None if axis[0] is None else _transposed_size(*axis, padding) for axis in axes)


def inverts_convolution(window, strides, padding, output_padding, dilation_rate):
    """Whether `transposed_sizes` are sizes of which a convolution has the original ones."""
    output_padding = (None,) * len(window) if output_padding is None else output_padding
    axes = zip(window, strides, output_padding, dilation_rate, strict=True)
    return all(_inverts_axis(*axis, padding) for axis in axes)


def _inverts_axis(window, stride, output_padding, dilation, padding):
    if output_padding is None:
        return True
    extent = (window - 1) * dilation + 1
    if padding == "valid":
        return output_padding < stride
    return 1 <= extent % 2 + output_padding <= stride


def _transposed_size(size, window, stride, output_padding, dilation, padding):
    extent = (window - 1) * dilation + 1
    if padding == "valid":
        more = max(stride - extent, 0) if output_padding is None else output_padding
        return (size - 1) * stride + extent + more
    if output_padding is None:
        return size * stride
    return (size - 1) * stride + extent % 2 + output_padding

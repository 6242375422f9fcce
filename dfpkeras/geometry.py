"""Checks of what convolutions and poolings are told, and the sizes that follow."""

from dfpkeras.tensor import DFPTensor, _integer, _kind


def check_rank(name, value, rank):
    """A `DFPTensor` of so many dimensions."""
    if not isinstance(value, DFPTensor):
        raise TypeError(f"{name}: a DFPTensor (dfpkeras.quantize) is needed, got {_kind(value)}")
    if len(value.shape) != rank:
        raise ValueError(f"{name}: {rank} dimensions are needed, got shape {value.shape}")
    return value


def check_shape(name, value, rank):
    """A tuple of `rank` sizes."""
    try:
        shape = tuple(_integer(name, size) for size in value)
    except TypeError:
        raise TypeError(f"{name}: a tuple of {rank} integers is needed, got {value!r}") from None
    if len(shape) != rank or min(shape) < 0:
        raise ValueError(f"{name}: {rank} sizes are needed, none negative, got {shape}")
    return shape


def check_pair(name, value):
    """Two positive integers, from a pair or one for both."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name}: an integer or a pair is needed, got {value!r}")
    pair = tuple(_integer(name, v) for v in values)
    if min(pair) < 1:
        raise ValueError(f"{name}: integers of at least 1 are needed, got {value!r}")
    return pair


def check_padding(padding):
    if padding not in ("valid", "same"):
        raise ValueError(f"padding: 'valid' or 'same' is needed, got {padding!r}")
    return padding


def output_and_padding(size, kernel, stride, dilation, padding):
    """(output size, zeros before the first element) along one axis."""
    extent = (kernel - 1) * dilation + 1
    if padding == "valid":
        return (size - extent) // stride + 1, 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + extent - size, 0) // 2

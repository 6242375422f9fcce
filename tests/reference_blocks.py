"""Oracle of tensors in blocks, written only from docs/numerics.md, "Blocks"."""

import numpy as np

BITS = 15
LEAST_EXPONENT = -126


def block_of(group_channels):
    """The channels of a block, or 0."""
    return next((size for size in (64, 32, 16) if group_channels % size == 0), 0)


def to_blocks(x, block):
    """(int16 data, float32 scales) of a float32 array (..., channels)."""
    parts = x.astype(np.float64).reshape(*x.shape[:-1], -1, block)
    largest = np.abs(parts).max(-1)
    finite = np.isfinite(largest)
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(np.where(finite, largest, 1.0))) - (BITS - 1)
    scale = np.exp2(np.maximum(exponent, LEAST_EXPONENT))
    data = np.rint(np.where(finite[..., None], parts, 0.0) / scale[..., None])
    data = np.clip(data, 1 - 2**BITS, 2**BITS - 1).astype(np.int16)
    return data.reshape(x.shape), np.where(finite, scale, np.nan).astype(np.float32)


def values(data, scales):
    """The float32 array that blocks stand for."""
    block = data.shape[-1] // scales.shape[-1]
    with np.errstate(invalid="ignore"):
        return data.astype(np.float32) * np.repeat(scales, block, -1)

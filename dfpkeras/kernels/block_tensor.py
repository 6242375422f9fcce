"""Tensors in blocks: the results of convolutions, in half of FP32's bytes."""

import math

from dfpkeras import _native
from dfpkeras.runtime.memory import aligned_empty


class BlockTensor:
    """INT16 and a scale, a power of two, for each block of 16, 32 or 64 channels of a pixel.

    Kernels take it in place of the ``float32`` array that it stands for, with the same results to
    the last bit (docs/numerics.md, "Blocks").

    Attributes:
        data: C-contiguous ``int16`` array (..., channels).
        scales: ``float32`` array (..., channels / block), powers of two; NaN for a block with NaN
            or Inf.
    """

    __slots__ = ("data", "scales")

    def __init__(self, data, scales):
        self.data = data
        self.scales = scales

    @property
    def shape(self):
        """The shape, a tuple of integers."""
        return self.data.shape

    @property
    def size(self):
        """The number of elements."""
        return self.data.size

    @property
    def parts(self):
        """What the native module takes for it."""
        block = self.data.shape[-1] // self.scales.shape[-1]
        return self.data.reshape(-1), 0, 0, self.scales.reshape(-1), block

    def fill(self, value):
        """Makes every element 0 or NaN."""
        self.data.fill(0)
        self.scales.fill(value if math.isnan(value) else 2.0**-126)

    def dequantize(self):
        """The ``float32`` array that it stands for, exactly."""
        x = aligned_empty(self.shape, "float32")
        if x.size:
            _native.expand_blocks(self.parts, x.reshape(-1))
        return x

    def reshape(self, *shape):
        """The same elements in another shape with as many channels; ``data`` is shared."""
        data = self.data.reshape(*shape)
        return BlockTensor(data, self.scales.reshape(*data.shape[:-1], self.scales.shape[-1]))


def result_for(shape, groups, in_blocks):
    """A result to be filled, in FP32, or in blocks if that is asked for and its channels make any.

    Args:
        shape: (..., channels), tuple of integers.
        groups: number of groups of the channels, none of which shares a block with another.
        in_blocks: bool.
    """
    block = block_of(shape[-1] // groups) if in_blocks else 0
    if not block:
        return aligned_empty(shape, "float32")
    scales = aligned_empty((*shape[:-1], shape[-1] // block), "float32")
    return BlockTensor(aligned_empty(shape, "int16"), scales)


def buffers_of(result):
    """Where the native module puts a result in FP32 or in blocks."""
    if isinstance(result, BlockTensor):
        return result.data.reshape(-1), result.scales.reshape(-1)
    return result.reshape(-1)


def block_of(group_channels):
    """The number of channels of a block, 0 if such channels make no blocks."""
    return _native.block_of(group_channels)

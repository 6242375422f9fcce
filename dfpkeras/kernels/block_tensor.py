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

    @property
    def buffers(self):
        """Where the native module puts one."""
        return self.data.reshape(-1), self.scales.reshape(-1)

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


def empty_blocks(shape, group_channels):
    """Returns a `BlockTensor` to be filled, or None if such channels make no blocks.

    Args:
        shape: (..., channels), tuple of integers.
        group_channels: the channels of a group, a divisor of the channels.
    """
    block = block_of(group_channels)
    if not block:
        return None
    scales = aligned_empty((*shape[:-1], shape[-1] // block), "float32")
    return BlockTensor(aligned_empty(shape, "int16"), scales)


def block_of(group_channels):
    """The number of channels of a block, 0 if such channels make no blocks."""
    return _native.block_of(group_channels)

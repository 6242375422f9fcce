"""The shapes, names and multiply-adds of convolutions and dense layers."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution with square kernels.

    Attributes:
        height, width, channels: size of one input image.
        filters: output channels.
        kernel_size, strides: ints, for both axes.
        padding: "valid" or "same", as in TensorFlow.
        groups: number of groups of channels.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel_size: int
    strides: int = 1
    padding: str = "same"
    groups: int = 1

    kind = "convolution"

    @property
    def label(self):
        """Name of the layer, unique within the networks here."""
        parts = [
            f"{self.height}x{self.width}",
            f"{self.channels}->{self.filters}",
            f"{self.kernel_size}x{self.kernel_size}",
        ]
        if self.strides > 1:
            parts[-1] += f"/{self.strides}"
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        return " ".join(parts)

    @property
    def w_shape(self):
        """(kernel height, kernel width, channels of a group, filters)."""
        return (
            self.kernel_size,
            self.kernel_size,
            self.channels // self.groups,
            self.filters,
        )

    def x_shape(self, batch_size):
        """(batch, height, width, channels)."""
        return batch_size, self.height, self.width, self.channels

    def y_shape(self, batch_size):
        """(batch, output height, output width, filters)."""
        height, width = map(self._output_size, (self.height, self.width))
        return batch_size, height, width, self.filters

    def macs(self, batch_size):
        """Multiply-adds of any one direction: outputs times the taps of one output.

        Taps on the zeros around an image count, as everywhere in the literature; what a kernel
        computes only to fill its vectors and tiles does not.
        """
        return math.prod(self.y_shape(batch_size)) * math.prod(self.w_shape[:3])

    def _output_size(self, size):
        if self.padding == "same":
            return -(-size // self.strides)
        return (size - self.kernel_size) // self.strides + 1


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense layer: ``y = x @ w``.

    Attributes:
        inputs, units: columns of x and of y.
    """

    inputs: int
    units: int

    kind = "dense"

    @property
    def label(self):
        """Name of the layer, unique within the networks here."""
        return f"dense {self.inputs}->{self.units}"

    @property
    def w_shape(self):
        """(inputs, units)."""
        return self.inputs, self.units

    def x_shape(self, batch_size):
        """(batch, inputs)."""
        return batch_size, self.inputs

    def y_shape(self, batch_size):
        """(batch, units)."""
        return batch_size, self.units

    def macs(self, batch_size):
        """Multiply-adds of any one direction."""
        return batch_size * self.inputs * self.units

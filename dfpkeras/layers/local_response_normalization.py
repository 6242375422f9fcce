"""Normalisation of each channel by its neighbours."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="dfpkeras")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each number by a power of the energy of the channels around it, at the same pixel.

    ``y[c] = x[c] / (bias + alpha * sum(x[k]^2 for |k - c| <= depth_radius)) ^ beta``, where
    channels beyond the first and the last count as zero: Krizhevsky et al., "ImageNet
    Classification with Deep Convolutional Neural Networks" (2012), section 3.3, whose constants are
    the defaults. ``alpha`` is not divided by the size of the window.

    It computes in float32 under every dtype policy with float32 variables, including "dfp16", where
    it takes the float32 values of the layers around it, which run on integers.

    Args:
        depth_radius: number of channels on each side that count, at least 0.
        bias: positive constant in the denominator.
        alpha: factor of the sum of squares, at least 0.
        beta: exponent of the denominator.
        data_format: "channels_last" or "channels_first"; None for Keras' global one.

    Input and output: float tensors (batch, height, width, channels) or, channels first, (batch,
    channels, height, width); any number of spatial dimensions is possible.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75, data_format=None, **kwargs):
        super().__init__(**kwargs)
        _require("depth_radius", depth_radius, "an int of at least 0", _is_count(depth_radius))
        _require("bias", bias, "above 0", bias > 0)
        _require("alpha", alpha, "at least 0", alpha >= 0)
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        formats = ("channels_last", "channels_first")
        _require("data_format", data_format, f"one of {formats}", self.data_format in formats)

    def call(self, inputs):
        energy = self.bias + self.alpha * self._sum_of_neighbours(inputs * inputs)
        # Several times faster than a power and its gradient.
        return inputs * ops.exp(-self.beta * ops.log(energy))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
            "data_format": self.data_format,
        }

    def _sum_of_neighbours(self, x):
        """The sums over all windows of channels, as a product with a band matrix."""
        axis = len(x.shape) - 1 if self.data_format == "channels_last" else 1
        channels = np.arange(x.shape[axis])
        band = np.abs(channels[:, None] - channels) <= self.depth_radius
        sums = ops.tensordot(x, ops.convert_to_tensor(band, x.dtype), axes=(axis, 0))
        return ops.moveaxis(sums, -1, axis)


def _is_count(value):
    return isinstance(value, int) and value >= 0


def _require(name, value, needed, holds):
    if not holds:
        raise ValueError(
            f"Argument `{name}` of LocalResponseNormalization must be {needed}. "
            f"Received: {name}={value!r}"
        )

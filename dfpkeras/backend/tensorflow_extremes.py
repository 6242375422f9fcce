"""The smallest and the largest number of each channel of what a convolution computes.

A convolution finds them while its results are in a cache, if a consumer asks; what follows then
knows the exponent of its own result without a read of its own. A graph is complete before it runs,
so its consumers can still ask; in eager execution the convolution is over, and they do without.
"""

import typing

import tensorflow as tf

from dfpkeras.backend.tensorflow_carriers import is_local

_ATTRIBUTE = "_dfp_extremes"


class Wish:
    """Whether a consumer asked for the extremes; the kernel reads it when it runs.

    An object of its own: TensorFlow keeps the functions that a graph calls for ever, so they must
    not refer to the graph.
    """

    def __init__(self):
        self.is_made = False


class Extremes(typing.NamedTuple):
    """Minimum and maximum of each channel.

    Attributes:
        wish: `Wish`.
        tensor: float32 tensor (2, channels), of no meaning unless they were asked for.
    """

    wish: Wish
    tensor: tf.Tensor


def remember_extremes(y, extremes):
    """Returns `y`, whose consumers may ask for the extremes of its last dimension."""
    setattr(y, _ATTRIBUTE, extremes)
    return y


def request_extremes(y):
    """The float32 tensor (2, channels) of minimum and maximum, or None if nobody can tell."""
    extremes = getattr(y, _ATTRIBUTE, None)
    if extremes is None or tf.executing_eagerly() or not is_local(extremes.tensor):
        return None
    extremes.wish.is_made = True
    return extremes.tensor

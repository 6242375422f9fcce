"""The smallest and the largest number of each channel of a convolution's result.

A convolution finds them while its results are in a cache, if a consumer asks; the consumer then
knows the exponent of its own result without reading its input first. A graph is complete before it
runs, so its consumers can still ask; in eager execution the convolution has already run, and they
do without.
"""

import typing

from dfpkeras.backend import current

_NAME = "_dfp_channel_range"


class Request:
    """Whether a consumer asked for the range; the kernel reads it when it runs.

    A separate object, because a backend may keep the functions that a graph calls forever, so they
    must not refer to the graph.
    """

    def __init__(self):
        self.is_made = False


class ChannelRange(typing.NamedTuple):
    """Minimum and maximum of each channel.

    Attributes:
        request: `Request`.
        tensor: float32 tensor (2, channels), meaningless unless it was asked for.
    """

    request: Request
    tensor: typing.Any


def remember_channel_range(y, channel_range):
    """Returns `y`, whose consumers may ask for the range of its last dimension."""
    current().attach(y, _NAME, channel_range)
    return y


def request_channel_range(y):
    """The float32 tensor (2, channels) of minimum and maximum, or None if it is not available."""
    backend = current()
    channel_range = backend.attached(y, _NAME)
    if channel_range is None or not backend.is_lazy():
        return None
    if not backend.is_in_scope(channel_range.tensor):
        return None
    channel_range.request.is_made = True
    return channel_range.tensor

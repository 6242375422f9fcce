"""The smallest and the largest number of each channel of what a convolution computes.

A convolution finds them while its results are in a cache, if a consumer asks; what follows then
knows the exponent of its own result without a read of its own. A graph is complete before it runs,
so its consumers can still ask; in eager execution the convolution is over, and they do without.
"""

import typing

from dfpkeras.backend import current

_NAME = "_dfp_channel_range"


class Request:
    """Whether a consumer asked for the range; the kernel reads it when it runs.

    An object of its own: a backend may keep the functions that a graph calls for ever, so they must
    not refer to the graph.
    """

    def __init__(self):
        self.is_made = False


class ChannelRange(typing.NamedTuple):
    """Minimum and maximum of each channel.

    Attributes:
        request: `Request`.
        tensor: float32 tensor (2, channels), of no meaning unless it was asked for.
    """

    request: Request
    tensor: typing.Any


def remember_channel_range(y, channel_range):
    """Returns `y`, whose consumers may ask for the range of its last dimension."""
    current().note(y, _NAME, channel_range)
    return y


def request_channel_range(y):
    """The float32 tensor (2, channels) of minimum and maximum, or None if nobody can tell."""
    backend = current()
    channel_range = backend.noted(y, _NAME)
    if channel_range is None or not backend.is_lazy():
        return None
    if not backend.is_in_scope(channel_range.tensor):
        return None
    channel_range.request.is_made = True
    return channel_range.tensor

"""Which layer's number format a tensor was computed in."""

import keras

from dfpkeras.backend import current
from dfpkeras.integration.policy import number_format_of

_NAME = "_dfp_number_format"


def remember_number_format(result, layer):
    """Returns what a layer computed on integers, and notes its number format; that of an operation
    is noted already."""
    if isinstance(layer, keras.Layer) and not current().unsupported(result):
        return with_number_format(result, number_format_of(layer))
    return result


def common_number_format(tensors):
    """The `NumberFormat` in which layers computed all of several tensors on integers, or None if
    one of them came from elsewhere, or they differ."""
    found = {current().attached(x, _NAME) for x in tensors}
    return found.pop() if len(found) == 1 else None


def with_number_format(result, number_format):
    """Returns a tensor, and notes the number format that an operation computed it in."""
    current().attach(result, _NAME, number_format)
    return result

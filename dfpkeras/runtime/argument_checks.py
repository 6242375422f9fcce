"""Checks of arguments that every module needs, with errors that name the argument."""

import operator

import numpy as np


def check_integer(name, value):
    """Returns `value` as an int; raises a TypeError if it is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {kind_of(value)}") from None


def check_bool(name, value):
    """Returns `value`; raises a TypeError if it is not a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {kind_of(value)}")
    return bool(value)


def kind_of(value):
    """What a caller passed, for error messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return f"{type(value).__name__} {value!r}"

"""The decorator for operations that layers call."""

import functools

from dfpkeras.backend import current


def operation(function):
    """Has the backend call `function` without rewriting it, see `Backend.as_written`."""

    @functools.wraps(function)
    def entry(*args, **kwargs):
        return current().as_written(function, *args, **kwargs)

    return entry

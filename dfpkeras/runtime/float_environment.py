"""Arithmetic of NumPy in the default floating-point environment, whatever the caller's is.

The compiled kernels set it themselves. NumPy computes in the mode of the calling thread, and
TensorFlow's threads flush subnormal numbers to zero: the same operands would give different bits.
"""

import functools

from dfpkeras import _native


def default_float_environment(function):
    """Decorator: rounds to nearest and keeps subnormal numbers while `function` runs."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        return _native.call_in_default_float_environment(function, *args, **kwargs)

    return run

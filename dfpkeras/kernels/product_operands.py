"""Helpers of the kernels that multiply two tensors."""

import numpy as np

from dfpkeras.runtime.argument_checks import check_integer, kind_of

INT32_MAX = 2**31 - 1


def is_trivial(result, a, b):
    """Fills a result that needs no multiplication: empty, not finite, or a sum over nothing."""
    if not (a.is_finite and b.is_finite):
        result.fill(np.nan)
    elif not a.data.size or not b.data.size:
        result.fill(0)
    else:
        return not result.size
    return True


def tensor_parts(tensor):
    return tensor.data.reshape(-1), tensor.exponent, tensor.max_abs


def check_bias(bias, size):
    if bias is None:
        return None
    if not isinstance(bias, np.ndarray) or bias.dtype != np.float32 or bias.shape != (size,):
        raise ValueError(f"bias: expected a float32 array of shape ({size},), got {kind_of(bias)}")
    return np.ascontiguousarray(bias)


def check_flush_every(flush_every, a, a_name, b, b_name):
    """The interval as the native module takes it: 0 for None, the schedule proven from the data."""
    if flush_every is None:
        return 0
    flush_every = check_flush_interval(flush_every)
    largest = a.max_abs * b.max_abs
    if largest * flush_every > INT32_MAX:
        raise ValueError(
            f"flush_every: {flush_every} products of max|{a_name}| = {a.max_abs} and "
            f"max|{b_name}| = {b.max_abs} may overflow INT32; at most "
            f"{INT32_MAX // largest // 2 * 2} are safe, or quantise with fewer bits"
        )
    # An interval longer than any reduction makes one run.
    return min(flush_every, INT32_MAX - 1)


def check_flush_interval(flush_every):
    """A fixed number of products between flushes, as an int."""
    flush_every = check_integer("flush_every", flush_every)
    if flush_every < 2 or flush_every % 2:
        raise ValueError(
            f"flush_every: expected an even number of products, at least 2, got {flush_every}"
        )
    return flush_every

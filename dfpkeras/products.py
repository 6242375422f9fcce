"""What the kernels that multiply two tensors have in common."""

import numpy as np

from dfpkeras.tensor import _kind


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
        raise ValueError(f"bias: a float32 array of shape ({size},) is needed, got {_kind(bias)}")
    return np.ascontiguousarray(bias)

"""Memory for results."""

import math

import numpy as np

ALIGNMENT = 64


def aligned_empty(shape, dtype):
    """An uninitialised C-contiguous array whose first byte is 64-byte aligned.

    TensorFlow takes such arrays without copying them; ``np.empty`` gives 16-byte alignment.
    """
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    raw = np.empty(count * dtype.itemsize + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)

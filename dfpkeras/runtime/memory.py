"""Memory for results: 64-byte aligned, and reused when its last reader is gone."""

import math
import weakref

import numpy as np

from dfpkeras import _native

_owners: weakref.WeakSet = weakref.WeakSet()


def aligned_empty(shape, dtype):
    """An uninitialised C-contiguous array from the memory pool.

    TensorFlow takes arrays whose first byte is 64-byte aligned without copying them; ``np.empty``
    aligns to 16 bytes only. The memory returns to the pool when the last reference to the array,
    or to any view of it, is dropped.
    """
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    if not count:
        return np.empty(shape, dtype)
    memory = _native.Memory(count * dtype.itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def memory_stats() -> dict[str, int]:
    """What the memory pool holds, in bytes.

    Returns:
        dict with ``in_use`` (results that are still referenced), ``cached`` (freed, kept for
        reuse) and ``peak_in_use`` (the most in use at one time since the last release);
        ``in_use + cached`` is never more than 3/2 of it.
    """
    return dict(zip(("in_use", "cached", "peak_in_use"), _native.memory_statistics(), strict=True))


def release_memory() -> None:
    """Returns to the system all memory that no result uses, and weights kept as integers.

    ``keras.utils.clear_session()`` does so too.
    """
    for owner in list(_owners):
        owner.release()
    _native.release_memory()


def release_with_memory(owner):
    """Has `release_memory` call ``owner.release()`` first, as long as `owner` exists."""
    _owners.add(owner)

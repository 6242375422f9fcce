"""Memory that is filled with NaN as soon as nothing owns it."""

import contextlib
import gc

import numpy as np

from dfpkeras import _native
from dfpkeras.runtime import memory


@contextlib.contextmanager
def poisoned_memory():
    """A context in which memory of the pool that is new or no longer in use holds NaN."""
    gc.collect()
    memory.release_memory()
    _native.poison_memory(True)
    try:
        yield
    finally:
        _native.poison_memory(False)


def dangling_view(array):
    """The numbers of a C-contiguous array, by their address alone: they may become invalid at any
    time."""

    where = array.__array_interface__["data"][0]
    numbers = np.ctypeslib.as_ctypes_type(array.dtype) * array.size
    return np.asarray(numbers.from_address(where)).reshape(array.shape)

"""The memory pool behind results."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dfpkeras import arrays

LARGE = (1024, 1024)
BYTES = 4 * 1024 * 1024


@pytest.fixture(autouse=True)
def empty_pool():
    gc.collect()
    arrays.release_memory()


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(1,), (3, 5), (300, 7, 11), LARGE, (2**20 + 1,)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_arrays_are_aligned_writable_and_contiguous(shape, dtype):
    array = arrays.aligned_empty(shape, dtype)
    assert address(array) % 64 == 0
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.writeable and array.flags.c_contiguous
    array.fill(7)
    assert (array == 7).all()


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_arrays(shape):
    assert arrays.aligned_empty(shape, np.float32).shape == shape


def test_memory_is_reused_after_the_last_view_is_gone():
    array = arrays.aligned_empty(LARGE, np.float32)
    where, view = address(array), array[3:5]
    del array
    assert address(arrays.aligned_empty(LARGE, np.float32)) != where
    del view
    assert address(arrays.aligned_empty(LARGE, np.float32)) == where


def test_statistics_follow_use():
    before = arrays.memory_stats()
    array = arrays.aligned_empty(LARGE, np.float32)
    assert arrays.memory_stats()["in_use"] - before["in_use"] == BYTES
    del array
    after = arrays.memory_stats()
    assert after["in_use"] == before["in_use"]
    assert after["cached"] == BYTES
    arrays.release_memory()
    assert arrays.memory_stats()["cached"] == 0


def test_what_is_kept_is_bounded():
    for size in range(1, 40):
        arrays.aligned_empty((size * 100_000,), np.float32)
        stats = arrays.memory_stats()
        assert stats["in_use"] + stats["cached"] <= 1.5 * stats["peak_in_use"]
    assert arrays.memory_stats()["peak_in_use"] < 20_000_000


def test_sizes_no_longer_in_use_make_room():
    for size in (900_000, 700_000, 500_000):
        array = arrays.aligned_empty((size,), np.float32)
        where = address(array)
        del array
        assert address(arrays.aligned_empty((size,), np.float32)) == where


def test_concurrent_use_never_hands_out_a_block_twice():
    def work(seed):
        rng = np.random.default_rng(seed)
        kept = []
        for _ in range(300):
            array = arrays.aligned_empty((int(rng.integers(16_384, 200_000)),), np.float32)
            array.fill(seed)
            kept = [*kept[-3:], array]
            if not all((k == seed).all() for k in kept):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="bytes could not be allocated"):
        arrays.aligned_empty((2**60,), np.int16)

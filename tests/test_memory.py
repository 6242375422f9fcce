"""The memory pool of results."""

import gc
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from poison import dangling_view, poisoned_memory

from dfpkeras.runtime import memory

LARGE = (1024, 1024)
#: What it takes of the pool, with the pool's own 64 bytes.
BYTES = 4 * 1024 * 1024 + 64


@pytest.fixture(autouse=True)
def empty_pool():
    gc.collect()
    memory.release_memory()


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1,), (3, 5), (300, 7, 11), LARGE, (2**20 + 1,)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_arrays_are_aligned_writable_and_contiguous(shape, dtype):
    array = memory.aligned_empty(shape, dtype)
    assert address(array) % 64 == 0
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.writeable and array.flags.c_contiguous
    array.fill(7)
    assert (array == 7).all()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_arrays(shape):
    assert memory.aligned_empty(shape, np.float32).shape == shape


@pytest.mark.slow
def test_memory_is_reused_after_the_last_view_is_gone():
    array = memory.aligned_empty(LARGE, np.float32)
    where, view = address(array), array[3:5]
    del array
    assert address(memory.aligned_empty(LARGE, np.float32)) != where
    del view
    assert address(memory.aligned_empty(LARGE, np.float32)) == where


def test_statistics_follow_use():
    before = memory.memory_stats()
    array = memory.aligned_empty(LARGE, np.float32)
    assert memory.memory_stats()["in_use"] - before["in_use"] == BYTES
    del array
    after = memory.memory_stats()
    assert after["in_use"] == before["in_use"]
    assert after["cached"] == BYTES
    memory.release_memory()
    assert memory.memory_stats()["cached"] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 4_000_000), st.integers(0, 5)), max_size=40))
def test_what_is_kept_is_bounded_at_any_time(steps):
    memory.release_memory()
    held = []
    for size, drop in steps:
        held = held[drop:]
        held.append(memory.aligned_empty((size,), np.int16))
        stats = memory.memory_stats()
        assert stats["in_use"] + stats["cached"] <= 1.5 * stats["peak_in_use"]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 300_000), st.integers(0, 9)), max_size=60))
def test_blocks_keep_what_is_written_to_them(steps):
    held = []
    for number, (size, drop) in enumerate(steps):
        held.append((number, memory.aligned_empty((size,), np.int32)))
        held[-1][1].fill(number)
        if drop < len(held):
            del held[drop]
        assert all((array == value).all() for value, array in held)


def test_freed_neighbours_serve_a_larger_request():
    memory.release_memory()
    before = memory.memory_stats()["in_use"]
    arrays = [memory.aligned_empty((100_000,), np.float32) for _ in range(8)]
    del arrays
    whole = memory.aligned_empty((300_000,), np.float32)
    stats = memory.memory_stats()
    assert whole.nbytes <= stats["in_use"] - before <= 1.01 * whole.nbytes
    assert stats["in_use"] + stats["cached"] <= 1.01 * stats["peak_in_use"]


@pytest.mark.slow
def test_where_addresses_are_limited_no_range_is_reserved(run_python):
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
import numpy as np
from dfpkeras.runtime import memory
arrays = [memory.aligned_empty((1 << 22,), np.float32) for _ in range(3)]
for array in arrays:
    array.fill(1)
print(memory.memory_stats()["in_use"] // arrays[0].nbytes)
"""
    result = run_python(program)
    assert result.stdout == "3\n", result.stderr


@pytest.mark.slow
def test_a_failed_request_leaves_no_trace():
    before = memory.memory_stats()
    with pytest.raises(MemoryError, match="bytes could not be allocated"):
        memory.aligned_empty((2**60,), np.int16)
    assert memory.memory_stats() == before


@pytest.mark.slow
@pytest.mark.parametrize("clear_session", [keras.utils.clear_session, keras.backend.clear_session])
def test_clear_session_releases_what_no_result_uses(clear_session):
    gc.collect()
    memory.release_memory()
    others = memory.memory_stats()["in_use"]
    kept, dropped = (memory.aligned_empty(LARGE, np.float32) for _ in range(2))
    kept.fill(3)
    del dropped
    assert memory.memory_stats()["cached"] == BYTES
    policy = keras.config.dtype_policy()
    clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
    in_use = others + BYTES
    assert memory.memory_stats() == {"in_use": in_use, "cached": 0, "peak_in_use": in_use}
    assert (kept == 3).all()


@pytest.mark.slow
def test_poison_fills_memory_that_is_new_or_no_longer_in_use():
    with poisoned_memory():
        array = memory.aligned_empty((300, 7), np.float32)
        assert np.isnan(array).all()
        array.fill(1)
        view = dangling_view(array)
        assert (view == 1).all()
        del array
        assert np.isnan(view).all()
        assert (memory.aligned_empty((300, 7), np.int16) > 2**14).all()


@pytest.mark.slow
def test_sizes_no_longer_in_use_make_room():
    for size in (900_000, 700_000, 500_000):
        array = memory.aligned_empty((size,), np.float32)
        where = address(array)
        del array
        assert address(memory.aligned_empty((size,), np.float32)) == where


@pytest.mark.slow
def test_concurrent_use_never_hands_out_a_block_twice():
    def work(seed):
        rng = np.random.default_rng(seed)
        kept = []
        for _ in range(300):
            array = memory.aligned_empty((int(rng.integers(16_384, 200_000)),), np.float32)
            array.fill(seed)
            kept = [*kept[-3:], array]
            if not all((k == seed).all() for k in kept):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))

"""The speed that nothing can exceed."""

import time

import numpy as np

import dfpkeras
from dfpkeras import kernels

# (m, k, n): n columns of packed b fill the widest register tile, k·n of them stay in the first or
# second level cache, and m rows are enough for packing b and starting the threads not to matter.
_SHAPES = ((6144, 256, 64), (6144, 512, 64), (6144, 1024, 64), (1536, 256, 512), (24576, 512, 64))

# So few bits that no sum is flushed before the end of k.
_BITS = 8


def measure_peak(seconds=0.2):
    """Measures the micro-kernel with its data in the cache.

    This is an estimate from outside: the fastest of all calls of `dfpkeras.kernels.matmul` on a
    few shapes that give the micro-kernel long runs of data from the cache and hardly any other
    work. It includes reading the rows once and writing the result, a few per cent.

    Args:
        seconds: time to spend on each of five shapes.

    Returns:
        10^9 multiply-adds a second, with the current threads and instruction set.
    """
    return max(_fastest(*shape, seconds) for shape in _SHAPES)


def _fastest(m, k, n, seconds):
    rng = np.random.default_rng(0)
    a = dfpkeras.quantize(rng.standard_normal((m, k), np.float32), _BITS)
    b = dfpkeras.quantize(rng.standard_normal((k, n), np.float32), _BITS)
    kernels.matmul(a, b)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        kernels.matmul(a, b)
        best = min(best, time.perf_counter() - start)
    return m * k * n / best / 1e9

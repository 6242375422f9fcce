"""Upper bounds of the speed: bare instructions, and the micro-kernel in the cache."""

import time
from dataclasses import dataclass

from dfpkeras import _native

# About 0.1 ms a call at 200 GMAC/s: many chances to run undisturbed.
_REPETITIONS = 200


@dataclass(frozen=True)
class Peak:
    """Speeds of the current instruction set with the current threads.

    Attributes:
        bare: 10^9 multiply-adds a second of the micro-kernel's multiply-add instructions alone, on
            registers: what the CPU's ports allow.
        micro_kernel: the same for the micro-kernel with its operands in the first-level cache,
            including loads and FP32 flush.
    """

    bare: float
    micro_kernel: float


def measure_peak(seconds=0.5):
    """Measures both speeds, in turns; the fastest of all calls counts.

    Args:
        seconds: time to spend, shared by both.

    Returns:
        A `Peak`.
    """
    fastest = {False: 0.0, True: 0.0}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for with_memory in fastest:
            fastest[with_memory] = max(fastest[with_memory], _speed(with_memory))
    return Peak(bare=fastest[False], micro_kernel=fastest[True])


def run_bare_loop(seconds):
    """The speeds of all calls of the bare instructions in this time, see `Peak.bare`."""
    speeds, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not speeds:
        speeds.append(_speed(with_memory=False))
    return speeds


def _speed(with_memory):
    start = time.perf_counter()
    count = _native.run_multiply_adds(_REPETITIONS, with_memory)
    return count / (time.perf_counter() - start) / 1e9

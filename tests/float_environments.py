"""Floating-point modes that a caller may have set, for tests."""

import contextlib
import ctypes
import ctypes.util
import platform
import sys

import numpy as np
import pytest

# In C's fenv_t: which 32-bit word controls the arithmetic of vectors, and its bits.
_X86 = (7, {"flush": 0x8040, "downward": 0x2000, "upward": 0x4000, "toward zero": 0x6000})
_ARM = (0, {"flush": 1 << 24, "downward": 2 << 22, "upward": 1 << 22, "toward zero": 3 << 22})
_CONTROL = {"x86_64": _X86, "aarch64": _ARM}

MODES = tuple(_X86[1])

linux_only = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in _CONTROL,
    reason="the layout of fenv_t is known for Linux on x86-64 and aarch64",
)


@contextlib.contextmanager
def float_mode(mode):
    """A context in which this thread flushes subnormal numbers to zero or rounds differently."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    before, changed = (ctypes.c_uint32 * 16)(), (ctypes.c_uint32 * 16)()
    libm.fegetenv(before)
    libm.fegetenv(changed)
    word, bits = _CONTROL[platform.machine()]
    changed[word] |= bits[mode]
    libm.fesetenv(changed)
    try:
        yield
    finally:
        libm.fesetenv(before)


def mode_in_force():
    """Which of the modes NumPy computes in, or "default"."""
    half, tiny = np.float32([2.0**-25]), np.float32([2.0**-140])
    results = (tiny * np.float32(2), 1 + half, 1 + 3 * half, -1 - 3 * half)
    return {
        (2.0**-139, 1.0, 1 + 2.0**-23, -1 - 2.0**-23): "default",
        (0.0, 1.0, 1 + 2.0**-23, -1 - 2.0**-23): "flush",
        (2.0**-139, 1.0, 1.0, -1 - 2.0**-23): "downward",
        (2.0**-139, 1 + 2.0**-23, 1 + 2.0**-23, -1.0): "upward",
        (2.0**-139, 1.0, 1.0, -1.0): "toward zero",
    }[tuple(float(r[0]) for r in results)]

"""Mistakes of earlier INT16 training kernels, one for each test."""

import ctypes
import mmap
import platform
from pathlib import Path

import numpy as np
import pytest
import reference
from checks import OPERATIONS, check_backward_data, check_backward_weights, check_forward, run_case
from strategies import ConvolutionCase

import dfpkeras
from dfpkeras import _native, kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor


def case(input_shape, kernel_shape, kinds=("normal", "normal"), strides=(1, 1), bits=15):
    return ConvolutionCase(
        input_shape, kernel_shape, strides, "same", (1, 1), 1, kinds, (bits, bits), 13, None
    )


def test_rounding_up_at_the_maximum_does_not_wrap_to_minus_32768(on_every_isa):
    largest = np.nextafter(np.float32(1.0), np.float32(0.0))
    x = np.tile(np.float32([largest, -largest]), 50)
    for tensor in on_every_isa(lambda: dfpkeras.quantize(x, bits=15)).values():
        assert tensor.data.tolist() == [32767, -32767] * 50


@pytest.mark.parametrize("power", [-110, -14, 14, 15, 127])
def test_scale_factor_does_not_wrap_for_large_or_small_inputs(on_every_isa, power):
    """The exponent is signed and takes all of FP32's range."""
    x = np.ldexp(np.float32([1.0, -1.5, 0.25]), power)
    for tensor in on_every_isa(lambda: dfpkeras.quantize(x, bits=15)).values():
        assert tensor.exponent == power - 14
        np.testing.assert_array_equal(tensor.dequantize(), x)


def test_rounding_of_negatives_mirrors_that_of_positives(on_every_isa):
    x = np.float32([16.0, 4.75, 4.5, 4.25, 5.5])
    for rounding in ("nearest", "truncate", "biased"):
        for sign in (1, -1):
            expected = sign * reference.quantize(x, 5, rounding).data
            for tensor in on_every_isa(
                lambda rounding=rounding, sign=sign: dfpkeras.quantize(sign * x, 5, rounding)
            ).values():
                assert tensor.data.tolist() == expected.tolist()


@OPERATIONS
def test_results_do_not_differ_by_isa(on_every_isa, operation):
    """Data on which a wrapping, a saturating and an exact INT32 sum are three results."""
    chosen = case((2, 12, 11, 80), (3, 3, 80, 66), ("aligned_max", "aligned_max"))
    results = on_every_isa(lambda: run_case(operation, chosen))
    assert len(results) == len(kernels.available_isas()) >= 1
    for result in results.values():
        reference.assert_same_bits(result, results["scalar"])
        assert (np.abs(result) > reference.INT32_MAX).any()


def test_backward_weights_does_not_let_integer_runs_grow_without_bound(on_every_isa):
    """40 000 products of 32767**2 for each weight: a run of three would overflow."""
    x = DFPTensor(np.full((4, 100, 100, 1), 32767, np.int16), 0)
    dy = DFPTensor(np.full((4, 100, 100, 2), -32767, np.int16), 0)
    exact = -40_000.0 * 32767**2
    for result in on_every_isa(
        lambda: kernels.conv2d_backward_weights(x, dy, (1, 1, 1, 2))
    ).values():
        np.testing.assert_allclose(result, exact, rtol=20_001 * reference.UNIT_ROUNDOFF)


@pytest.mark.parametrize("channels", [(3, 64), (5, 17), (15, 15), (17, 31), (1, 1), (33, 10)])
def test_channels_not_divisible_by_16_have_kernels(on_every_isa, channels):
    """The stem (3 channels, 7x7, stride 2) and other odd counts, in all three operations."""
    size = 7 if channels == (3, 64) else 3
    chosen = case((1, 13, 15, channels[0]), (size, size, *channels), strides=(2, 2))
    check_forward(chosen, on_every_isa)
    check_backward_data(chosen, on_every_isa)
    check_backward_weights(chosen, on_every_isa)


@pytest.mark.parametrize("strides", [(2, 2), (3, 3), (1, 2), (3, 1)])
def test_strided_backward_exists(on_every_isa, strides):
    chosen = case((2, 11, 12, 16), (3, 3, 16, 32), strides=strides)
    check_backward_data(chosen, on_every_isa)
    check_backward_weights(chosen, on_every_isa)


def test_inputs_come_near_an_overflow(on_every_isa):
    """Inputs of -5..5 prove nothing: here an INT32 sum that is not flushed would wrap many
    times."""
    chosen = case((1, 9, 9, 64), (3, 3, 64, 16), ("aligned_max", "aligned_max"))
    exact = reference.forward(chosen.x.data, chosen.w.data, **chosen.options)
    assert np.abs(exact).max() > 100 * reference.INT32_MAX
    check_forward(chosen, on_every_isa)


def test_stochastic_rounding_is_not_seeded_by_time():
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    with pytest.raises(ValueError, match="seed"):
        dfpkeras.quantize(x, rounding="stochastic")
    first, again = (dfpkeras.quantize(x, 8, "stochastic", seed=3).data for _ in range(2))
    np.testing.assert_array_equal(first, again)


# --- CPUID and XGETBV -----------------------------------------------------------------------

# cpuid(leaf in edi, subleaf in esi, uint32 out[4] in rdx), by the System V calling convention.
CPUID_CODE = bytes.fromhex("53 4989d0 89f8 89f1 0fa2 418900 41895804 41894808 4189500c 5b c3")
# xgetbv(0) in rax.
XGETBV_CODE = bytes.fromhex("31c9 0f01d0 48c1e220 4809d0 c3")
XGETBV = bytes.fromhex("0f01d0")


class Cpu:
    """CPUID and XGETBV executed by this test, independently of the package's own check."""

    def __init__(self):
        self.page = mmap.mmap(
            -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self.page.write(CPUID_CODE.ljust(64, b"\x90") + XGETBV_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        words = ctypes.POINTER(ctypes.c_uint32)
        self._cpuid = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, words)(address)
        self._xgetbv = ctypes.CFUNCTYPE(ctypes.c_uint64)(address + 64)

    def leaf(self, leaf, subleaf=0):
        """Return (eax, ebx, ecx, edx)."""
        out = (ctypes.c_uint32 * 4)()
        self._cpuid(leaf, subleaf, out)
        return tuple(out)

    def enabled_state(self):
        """XCR0, or 0 where the system has not enabled XSAVE."""
        return self._xgetbv() if self.leaf(1)[2] >> 27 & 1 else 0


def runnable_isas(cpu):
    """Which ISAs this CPU has *and* the operating system saves the registers of."""
    state, isas = cpu.enabled_state(), ["scalar"]
    _, ebx, ecx, _ = cpu.leaf(7) if cpu.leaf(0)[0] >= 7 else (0, 0, 0, 0)
    ymm_saved, zmm_saved = state & 0x06 == 0x06, state & 0xE6 == 0xE6
    if ymm_saved and ebx >> 5 & 1:
        isas.append("avx2")
        if cpu.leaf(7, 1)[0] >> 4 & 1:
            isas.append("avxvnni")
    if zmm_saved and ebx >> 16 & 1 and ebx >> 30 & 1:
        isas.append("avx512bw")
        if ecx >> 11 & 1:
            isas.append("avx512vnni")
    return isas


def test_isa_is_chosen_by_cpuid_together_with_xgetbv():
    """Under hypervisors CPUID may promise AVX that the system does not save."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        assert kernels.available_isas() == ["scalar"]
        return
    assert XGETBV in Path(_native.__file__).read_bytes()
    assert kernels.available_isas() == runnable_isas(Cpu())

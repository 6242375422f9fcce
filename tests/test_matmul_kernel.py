"""The matrix product against the oracle, on every ISA."""

import numpy as np
import pytest
import reference
from checks import check_matmul
from hypothesis import given
from strategies import matmul_cases, operand, safe_interval

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor


@pytest.mark.slow
@given(case=matmul_cases())
def test_matches_oracle(on_every_isa, case):
    check_matmul(
        *case.operands, on_every_isa, safe_interval(*case.operands, case.flush), **case.options
    )


@pytest.mark.slow
@given(case=matmul_cases(kinds=("aligned_max", "aligned_max")))
def test_matches_oracle_on_adversarial_data(on_every_isa, case):
    check_matmul(
        *case.operands, on_every_isa, safe_interval(*case.operands, case.flush), **case.options
    )


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 63, 64, 65, 128, 129])
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 13, 14, 15])
def test_edges_of_tiles(on_every_isa, rows, columns):
    rng = np.random.default_rng(rows * 1000 + columns)
    for inner in (1, 2, 15, 16, 17, 33):
        a, b = (
            operand(rng, (rows, inner), "normal", 15),
            operand(rng, (inner, columns), "normal", 15),
        )
        check_matmul(a, b, on_every_isa)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_every_column_block_has_its_own_schedule(on_every_isa, transpose_a, transpose_b):
    """Blocks of very different weights: one flushes at every pair, another never."""
    rng = np.random.default_rng(5)
    a = operand(rng, (9, 300), "aligned_max", 15)
    data = np.ones((300, 200), np.int16)
    data[:, 64:128] = 32767
    data[::7, 130] = -20000
    b = reference.Operand(data, 0)
    if transpose_a:
        a = reference.Operand(np.ascontiguousarray(a.data.T), a.exponent)
    if transpose_b:
        b = reference.Operand(np.ascontiguousarray(b.data.T), b.exponent)
    expected = reference.scheduled_matmul(a, b, transpose_a, transpose_b)
    assert len(np.unique(expected.flushes)) >= 3
    check_matmul(a, b, on_every_isa, transpose_a=transpose_a, transpose_b=transpose_b)


def test_result_is_aligned_contiguous_float32():
    result = kernels.matmul(
        DFPTensor(np.ones((3, 5), np.int16), 0), DFPTensor(np.ones((5, 7), np.int16), 0)
    )
    assert result.dtype == np.float32
    assert result.shape == (3, 7)
    assert result.flags.c_contiguous
    assert result.ctypes.data % 64 == 0


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_operand_gives_all_nan(on_every_isa, which, value):
    values = [np.ones((4, 6), np.float32), np.ones((6, 5), np.float32)]
    values[which][2, 3] = value
    a, b = (dfpkeras.quantize(v) for v in values)
    for result in on_every_isa(lambda: kernels.matmul(a, b)).values():
        assert result.shape == (4, 5)
        assert np.isnan(result).all()


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0), (0, 4, 0), (3, 0, 5), (0, 0, 0)])
def test_empty_operands(on_every_isa, shape):
    """No rows or columns: an empty result; nothing to sum over: zeros."""
    rows, inner, columns = shape
    a = DFPTensor(np.ones((rows, inner), np.int16), 0)
    b = DFPTensor(np.ones((inner, columns), np.int16), 0)
    for result in on_every_isa(lambda: kernels.matmul(a, b)).values():
        reference.assert_same_bits(result, np.zeros((rows, columns), np.float32))

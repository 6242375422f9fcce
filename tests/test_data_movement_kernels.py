"""Concatenation, splitting, padding and cropping, on every instruction set and thread count."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_pooling as oracle
from checks import tensor
from hypothesis import given
from hypothesis import strategies as st
from test_batch_norm_kernels import assert_same_everywhere, given_operand, same

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

LENGTHS = st.sampled_from([1, 3, 16, 0, 17, 32, 33, 70, 100])


@st.composite
def operands(draw, shape, kind):
    """An `Operand` or a float32 array."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = draw(st.sampled_from([14, 15, 13, 4]))
    spread = 2.0 ** draw(st.sampled_from([0, -1, 3, -20, 60, -140]))
    numbers = (rng.standard_normal(shape) * spread).astype(np.float32)
    if draw(st.sampled_from([False, False, False, True])):
        numbers[:] = 0
    return numbers if kind == "float32" else reference.quantize(numbers, bits)


@st.composite
def concatenations(draw):
    """(operands, axis)."""
    rest = draw(st.lists(st.integers(1, 6), max_size=3))
    axis = draw(st.integers(0, len(rest)))
    lengths = draw(st.lists(LENGTHS, min_size=1, max_size=4))
    kinds = st.sampled_from(["integers", "integers", "float32"])
    parts = [draw(operands((*rest[:axis], n, *rest[axis:]), draw(kinds))) for n in lengths]
    return parts, axis


def assert_joined(result, expected):
    assert result.exponent == expected.exponent
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.max_abs == np.abs(expected.data.astype(np.int64)).max(initial=0)


@pytest.mark.slow
@given(concatenations(), st.sampled_from([14, 15, 7]), st.booleans())
def test_concatenate(on_every_isa, case, bits, from_the_end):
    parts, axis = case
    expected = oracle.concatenate(parts, axis, bits)
    given_axis = axis - expected.data.ndim if from_the_end else axis
    results = on_every_isa(
        lambda: kernels.concatenate([given_operand(part) for part in parts], given_axis, bits)
    )
    for result in results.values():
        if expected.data.size:
            assert_joined(result, expected)
        else:
            assert result.shape == expected.data.shape


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [
        ([(4, 28, 28, 128), (4, 28, 28, 32)], -1),
        ([(4, 28, 28, 31), (4, 28, 28, 5), (4, 28, 28, 64)], 3),
        ([(3, 40, 30, 40), (3, 41, 30, 40)], 1),
        ([(3, 40, 30, 40), (2, 40, 30, 40)], 0),
    ],
)
@pytest.mark.parametrize("exponents", [(-3, -3, -3), (0, -3, 1)])
def test_many_pixels(on_every_isa, on_every_thread_count, shapes, axis, exponents):
    rng = np.random.default_rng(0)
    parts = [
        reference.Operand(rng.integers(-9999, 9999, shape, dtype=np.int16), exponent)
        for shape, exponent in zip(shapes, exponents, strict=False)
    ]
    result = assert_same_everywhere(
        lambda: kernels.concatenate([tensor(part) for part in parts], axis),
        on_every_isa,
        on_every_thread_count,
    )
    assert_joined(result, oracle.concatenate(parts, axis, 14))
    back = assert_same_everywhere(
        lambda: tuple(kernels.split(result, [shape[axis] for shape in shapes], axis)),
        on_every_isa,
        on_every_thread_count,
    )
    ends = np.cumsum([shape[axis] for shape in shapes])[:-1]
    for part, expected in zip(back, np.split(result.data, ends, axis), strict=True):
        np.testing.assert_array_equal(part.data, expected)
        assert (part.exponent, part.max_abs) == (result.exponent, result.max_abs)


def test_one_exponent_is_copied():
    a, b = (DFPTensor(np.int16([[n, -n]]), -5) for n in (3, 16383))
    assert kernels.concatenate([a, b]).data.tolist() == [[3, -3, 16383, -16383]]
    small = kernels.concatenate([a, a])
    assert (small.exponent, small.data.tolist()) == (-5, [[3, -3, 3, -3]])


def test_rounding_is_to_even():
    a, b = DFPTensor(np.int16([1, 3, 5, -1, -3]), 0), DFPTensor(np.int16([16383]), 1)
    assert kernels.concatenate([a, b]).data.tolist() == [0, 2, 2, 0, -2, 16383]


def test_what_rounds_up_at_the_top_saturates():
    a = DFPTensor(np.int16([32767, -32767]), 0)
    joined = kernels.concatenate([a, a], bits=14)
    assert (joined.exponent, joined.max_abs) == (1, 16383)
    assert joined.data.tolist() == [16383, -16383] * 2


@pytest.mark.parametrize("exponent", [-128, 126])
def test_zeros_do_not_decide_the_exponent(exponent):
    a, zeros = DFPTensor(np.int16([10_000]), 3), DFPTensor(np.int16([0, 0]), exponent)
    joined = kernels.concatenate([zeros, a])
    assert (joined.exponent, joined.data.tolist()) == (3, [0, 0, 10_000])


def test_what_is_empty_does_not_decide_the_exponent():
    a, empty = DFPTensor(np.int16([8240]), -16), np.empty(0, np.float32)
    joined = kernels.concatenate([a, empty, a], bits=15)
    assert (joined.exponent, joined.data.tolist()) == (-16, [8240, 8240])
    expected = oracle.concatenate([reference.Operand(a.data, -16), empty], 0, 15)
    assert (expected.exponent, expected.data.tolist()) == (-16, [8240])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spreads(bad):
    a = DFPTensor(np.ones((2, 3), np.int16), 0)
    floats = np.ones((2, 2), np.float32)
    floats[1, 1] = bad
    nonfinite = DFPTensor(np.zeros((2, 3), np.int16), NONFINITE_EXPONENT)
    for part in (floats, nonfinite):
        joined = kernels.concatenate([a, part])
        assert joined.exponent == NONFINITE_EXPONENT
        assert not joined.data.any()
    for part in kernels.split(nonfinite, [1, 2]):
        assert part.exponent == NONFINITE_EXPONENT
    image = nonfinite.reshape(1, 2, 3, 1)
    for result in (
        kernels.zero_pad(image, ((1, 1), (1, 1))),
        kernels.crop(image, ((1, 0), (1, 0))),
    ):
        assert result.exponent == NONFINITE_EXPONENT


borders = st.tuples(st.integers(0, 4), st.integers(0, 3))


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 7), st.integers(0, 40)),
    st.tuples(borders, borders),
    st.integers(0, 2**32 - 1),
)
def test_zero_pad_and_crop(on_every_isa, shape, padding, seed):
    rng = np.random.default_rng(seed)
    x = DFPTensor(rng.integers(-(2**15) + 1, 2**15, shape, dtype=np.int16), -7)
    padded = np.pad(x.data, ((0, 0), *padding, (0, 0)))
    for y in on_every_isa(partial(kernels.zero_pad, x, padding)).values():
        np.testing.assert_array_equal(y.data, padded)
        assert (y.exponent, y.max_abs) == (x.exponent, x.max_abs)
    for back in on_every_isa(partial(kernels.crop, y, padding)).values():
        assert same(back, x)


@pytest.mark.parametrize("shape", [(3, 30, 31, 64), (1, 100, 300, 3)])
def test_padding_many_pixels(on_every_isa, on_every_thread_count, shape):
    x = DFPTensor(np.random.default_rng(1).integers(-9, 9, shape, dtype=np.int16), 2)
    everywhere = on_every_isa, on_every_thread_count
    y = assert_same_everywhere(lambda: kernels.zero_pad(x, ((3, 2), (0, 1))), *everywhere)
    np.testing.assert_array_equal(y.data, np.pad(x.data, ((0, 0), (3, 2), (0, 1), (0, 0))))
    back = assert_same_everywhere(lambda: kernels.crop(y, ((4, 2), (1, 1))), *everywhere)
    np.testing.assert_array_equal(back.data, x.data[:, 1:, 1:])

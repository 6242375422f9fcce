"""The bias that forward adds, and its gradient."""

import numpy as np
import pytest
import reference_blocks
from hypothesis import given
from hypothesis import strategies as st

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor


def random_tensor(rng, *shape, bits=15):
    limit = 2**bits - 1
    data = rng.integers(-limit, limit, shape, dtype=np.int16, endpoint=True)
    return DFPTensor(data, int(rng.integers(-20, 5)))


@given(st.integers(0, 2**32), st.integers(1, 70), st.sampled_from([1, 2]))
def test_a_bias_is_what_adding_it_afterwards_would_be(on_every_isa, seed, filters, groups):
    rng = np.random.default_rng(seed)
    x = random_tensor(rng, 2, 5, 4, 3 * groups)
    w = random_tensor(rng, 3, 2, 3, filters * groups)
    bias = rng.standard_normal(filters * groups).astype(np.float32)
    expected = kernels.conv2d_forward(x, w, groups=groups) + bias
    for y in on_every_isa(lambda: kernels.conv2d_forward(x, w, groups=groups, bias=bias)).values():
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("algorithm", ["direct", "winograd_2x2", "winograd_4x4"])
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 3, 16, 48, 70]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_a_bias_of_a_transposed_convolution(
    on_every_isa, algorithm, seed, channels, kernel, strides, groups, in_blocks
):
    """In cells, in phases, and in phases that no tap reaches."""
    rng = np.random.default_rng(seed)
    shape = (2, 7, 6, channels * groups)
    out = [(size - kernel) // strides + 1 for size in shape[1:3]]
    dy, w = random_tensor(rng, 2, *out, 8), random_tensor(rng, kernel, kernel, channels, 8)
    bias = rng.standard_normal(channels * groups).astype(np.float32)
    arguments = {"strides": strides, "groups": groups, "algorithm": algorithm}
    expected = kernels.conv2d_backward_data(dy, w, shape, **arguments) + bias
    if in_blocks and reference_blocks.block_of(channels):
        blocks = reference_blocks.to_blocks(expected, reference_blocks.block_of(channels))
        expected = reference_blocks.values(*blocks)

    def call():
        dx = kernels.conv2d_backward_data(dy, w, shape, bias=bias, in_blocks=in_blocks, **arguments)
        return dx if isinstance(dx, np.ndarray) else dx.dequantize()

    for dx in on_every_isa(call).values():
        np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("k", [0, 1, 9])
def test_a_bias_of_a_matrix_product(k):
    rng = np.random.default_rng(k)
    a, b = random_tensor(rng, 7, k), random_tensor(rng, k, 21)
    bias = rng.standard_normal(21).astype(np.float32)
    np.testing.assert_array_equal(kernels.matmul(a, b, bias=bias), kernels.matmul(a, b) + bias)


def test_a_bias_does_not_hide_that_an_operand_is_not_finite():
    a = DFPTensor(np.zeros((2, 3), np.int16), NONFINITE_EXPONENT)
    b = DFPTensor(np.ones((3, 4), np.int16), 0)
    assert np.isnan(kernels.matmul(a, b, bias=np.ones(4, np.float32))).all()


@pytest.mark.parametrize(
    ("bias", "received"),
    [
        (np.zeros(5, np.float32), r"float32 array of shape \(5,\)"),
        (np.zeros(6), r"float64 array of shape \(6,\)"),
        ([0.0] * 6, "list"),
    ],
)
def test_a_bias_that_does_not_fit(bias, received):
    x, w = (DFPTensor(np.ones(shape, np.int16), 0) for shape in [(1, 3, 3, 2), (1, 1, 2, 6)])
    with pytest.raises(ValueError, match=rf"bias: expected .*\(6,\), got {received}"):
        kernels.conv2d_forward(x, w, bias=bias)


@given(st.integers(0, 2**32), st.integers(1, 9000), st.integers(1, 40), st.booleans())
def test_sums_of_channels_are_exact(
    on_every_isa, on_every_thread_count, seed, pixels, channels, extreme
):
    rng = np.random.default_rng(seed)
    dy = random_tensor(rng, pixels, channels)
    if extreme:
        dy = DFPTensor(np.full((pixels, channels), -32767, np.int16), 3)
    exact = dy.data.astype(np.int64).sum(axis=0)
    expected = exact.astype(np.float32) * np.float32(2.0**dy.exponent)
    for results in (on_every_isa, on_every_thread_count):
        for sums in results(lambda: kernels.sum_channels(dy)).values():
            np.testing.assert_array_equal(sums, expected)


def test_sums_over_several_axes():
    dy = random_tensor(np.random.default_rng(0), 2, 3, 4, 5)
    np.testing.assert_array_equal(kernels.sum_channels(dy), kernels.sum_channels(dy.reshape(24, 5)))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_sums_over_nothing(shape):
    np.testing.assert_array_equal(
        kernels.sum_channels(DFPTensor(np.zeros(shape, np.int16), 0)), np.zeros(3, np.float32)
    )


def test_sums_of_what_is_not_finite():
    dy = dfpkeras.quantize(np.float32([[1, np.nan]]))
    assert np.isnan(kernels.sum_channels(dy)).all()


def test_sums_need_a_tensor_with_channels():
    with pytest.raises(TypeError, match="dy: expected a DFPTensor"):
        kernels.sum_channels(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"dy: expected at least one dimension, got shape \(\)"):
        kernels.sum_channels(DFPTensor(np.array(3, np.int16), 0))

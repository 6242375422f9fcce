"""Pooling against its oracle, on every instruction set and thread count."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pytest
import reference
import reference_pooling as oracle
import tensorflow as tf
from checks import tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_batch_norm import values
from test_batch_norm_kernels import assert_same_everywhere, same

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

CHANNELS = [3, 1, 16, 8, 17, 31, 32, 33, 64, 70, 130]
MOST_ELEMENTS = 40_000

# Overlapping and separate windows, gaps between them, windows of the whole image; several tasks.
LARGER = [
    ((3, 57, 58, 64), (3, 3), (2, 2), "valid"),
    ((2, 56, 57, 64), (3, 3), (2, 2), "same"),
    ((2, 60, 60, 33), (2, 2), (2, 2), "valid"),
    ((4, 30, 30, 96), (3, 3), (1, 1), "same"),
    ((2, 40, 41, 70), (2, 1), (3, 2), "valid"),
    ((5, 7, 7, 512), (7, 7), (1, 1), "valid"),
    ((70, 13, 12, 8), (5, 4), (2, 3), "same"),
]
EVERY_LARGER_CASE = pytest.mark.parametrize(
    ("shape", "pool_size", "strides", "padding"), LARGER, ids=str
)


@dataclass(frozen=True)
class Case:
    """One pooling: sizes are drawn, data are made from the seed."""

    shape: tuple
    pooling: oracle.Pooling
    kind: str
    bits: int
    seed: int

    @property
    def arguments(self):
        return self.pooling.pool_size, self.pooling.strides, self.pooling.padding

    def operand(self, shape, stream):
        """Integers of the case's kind."""
        rng = np.random.default_rng([self.seed, stream])
        limit = 2**self.bits - 1
        if self.kind == "largest":
            data = np.full(shape, rng.choice([-limit, limit]))
        elif self.kind == "zeros":
            data = np.zeros(shape)
        elif self.kind == "ties":
            data = rng.integers(-2, 3, shape) * (limit // 2)
        else:
            data = rng.integers(-limit, limit, shape, endpoint=True)
        return reference.Operand(data.astype(np.int16), int(rng.integers(-20, 10)))

    @cached_property
    def x(self):
        return self.operand(self.shape, 0)

    @cached_property
    def y(self):
        return oracle.max_pool(self.x, self.pooling)

    @cached_property
    def dy(self):
        return self.operand(self.y.data.shape, 1)


@st.composite
def axes(draw, padding):
    """(size, pool, stride) of one axis."""
    pool, stride = draw(st.sampled_from([2, 3, 1, 4, 7])), draw(st.sampled_from([2, 1, 3, 5]))
    smallest = pool if padding == "valid" else 1
    return smallest + draw(st.integers(0, 9)), pool, stride


@st.composite
def cases(draw):
    padding = draw(st.sampled_from(["valid", "same"]))
    rows, columns = draw(axes(padding)), draw(axes(padding))
    channels = draw(st.sampled_from(CHANNELS))
    image = rows[0] * columns[0] * channels
    batch = draw(st.integers(1, 3)) if 3 * image <= MOST_ELEMENTS else 1
    return Case(
        (batch, rows[0], columns[0], channels),
        oracle.Pooling((rows[1], columns[1]), (rows[2], columns[2]), padding),
        draw(st.sampled_from(["random", "ties", "largest", "random", "zeros"])),
        draw(st.sampled_from([14, 15, 9, 2])),
        draw(st.integers(0, 2**32 - 1)),
    )


def larger_case(shape, pool_size, strides, padding, kind="ties"):
    return Case(shape, oracle.Pooling(pool_size, strides, padding), kind, 15, 1)


def assert_equal(result, expected):
    """Fail unless a tensor is an operand of the oracle, to the last bit."""
    assert result.exponent == expected.exponent
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.max_abs == np.abs(expected.data.astype(np.int64)).max(initial=0)


def assert_near(result, exact, bits):
    """Fail unless a tensor is exact numbers rounded once, and clamped at the top."""
    unit = np.ldexp(1.0, result.exponent)
    allowed = np.where(np.abs(result.data) == 2**bits - 1, 1.001, 0.51) * unit
    assert (np.abs(result.data * unit - exact) <= allowed).all()


def each(results, check, *arguments):
    for result in results.values():
        check(result, *arguments)


# --- maximum --------------------------------------------------------------------------------


@pytest.mark.slow
@given(cases())
def test_max_pool(on_every_isa, case):
    results = on_every_isa(lambda: kernels.max_pool(tensor(case.x), *case.arguments))
    each(results, assert_equal, case.y)


def max_pool_backward(case, bits=15):
    x, y, dy = tensor(case.x), tensor(case.y), tensor(case.dy)
    return kernels.max_pool_backward(dy, x, y, *case.arguments, bits)


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 6, 2]))
def test_max_pool_backward(on_every_isa, case, bits):
    results = on_every_isa(partial(max_pool_backward, case, bits))
    expected = oracle.max_pool_gradient(case.dy, case.x.data, case.pooling, bits)
    each(results, assert_equal, expected)
    each(results, assert_near, exact_max_pool_gradient(case), bits)


def exact_max_pool_gradient(case):
    sums = oracle.max_pool_sums(case.dy.data, case.x.data, case.pooling)
    return np.ldexp(sums.astype(np.float64), case.dy.exponent)


@EVERY_LARGER_CASE
def test_max_pool_of_many_pixels(
    on_every_isa, on_every_thread_count, shape, pool_size, strides, padding
):
    case = larger_case(shape, pool_size, strides, padding)
    result = assert_same_everywhere(
        lambda: kernels.max_pool(tensor(case.x), *case.arguments),
        on_every_isa,
        on_every_thread_count,
    )
    assert_equal(result, case.y)
    result = assert_same_everywhere(
        partial(max_pool_backward, case), on_every_isa, on_every_thread_count
    )
    assert_equal(result, oracle.max_pool_gradient(case.dy, case.x.data, case.pooling, 15))


@settings(max_examples=40)
@given(cases())
def test_max_pool_is_that_of_tensorflow(case):
    """Also where several pixels of a window are equal."""
    x, dy = (values(operand).astype(np.float32) for operand in (case.x, case.dy))
    pool_size, strides, padding = case.arguments
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        y = tf.nn.max_pool2d(inputs, pool_size, strides, padding.upper())
    dx = tape.gradient(y, inputs, output_gradients=tf.constant(dy))
    result = kernels.max_pool(tensor(case.x), *case.arguments)
    np.testing.assert_array_equal(result.dequantize(), y)
    assert_near(max_pool_backward(case), dx.numpy().astype(np.float64), 15)


def test_the_first_of_equal_maxima_gets_the_gradient():
    x = DFPTensor(np.full((1, 3, 3, 1), 7, np.int16), 0)
    y = kernels.max_pool(x, 2, 1)
    dy = DFPTensor(np.int16([1, 2, 3, 4]).reshape(y.shape), 0)
    dx = kernels.max_pool_backward(dy, x, y, 2, 1)
    assert dx.data.reshape(3, 3).tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]


def test_padding_is_never_the_maximum(on_every_isa):
    x = DFPTensor(np.full((1, 5, 5, 20), -32767, np.int16), 3)
    each(
        on_every_isa(lambda: kernels.max_pool(x, 3, 2, "same")),
        assert_equal,
        reference.Operand(np.full((1, 3, 3, 20), -32767, np.int16), 3),
    )


def test_overlapping_gradients_do_not_saturate(on_every_isa):
    """Nine times the largest gradient falls on one pixel."""
    data = np.zeros((1, 5, 5, 40), np.int16)
    data[0, 2, 2] = 1
    x = DFPTensor(data, 0)
    y = kernels.max_pool(x, 3, 1)
    dy = DFPTensor(np.full(y.shape, -32767, np.int16), -4)
    for dx in on_every_isa(lambda: kernels.max_pool_backward(dy, x, y, 3, 1)).values():
        assert dx.exponent == -4 + 4
        assert (dx.data[0, 2, 2] == -round(9 * 32767 / 16)).all()
        assert np.count_nonzero(dx.data) == 40


def test_a_float32_gradient_is_quantised():
    case = larger_case((2, 9, 9, 20), (3, 3), (2, 2), "valid")
    dy = np.random.default_rng(0).standard_normal(case.y.data.shape).astype(np.float32)
    x, y = tensor(case.x), tensor(case.y)
    results = [
        kernels.max_pool_backward(gradient, x, y, *case.arguments, bits=12)
        for gradient in (dy, dfpkeras.quantize(dy, 12))
    ]
    assert same(*results)
    results = [
        kernels.average_pool_backward(gradient, x.shape, *case.arguments, bits=12)
        for gradient in (dy, dfpkeras.quantize(dy, 12))
    ]
    assert same(*results)


def test_an_exponent_beyond_the_largest_is_not_finite():
    x = DFPTensor(np.zeros((1, 4, 4, 1), np.int16), 0)
    y = kernels.max_pool(x, 3, 1)
    dy = DFPTensor(np.full(y.shape, 32767, np.int16), 126)
    assert kernels.max_pool_backward(dy, x, y, 3, 1).exponent == NONFINITE_EXPONENT


# --- average --------------------------------------------------------------------------------


@pytest.mark.slow
@given(cases(), st.sampled_from([14, 15, 6, 2]))
def test_average_pool(on_every_isa, case, bits):
    results = on_every_isa(lambda: kernels.average_pool(tensor(case.x), *case.arguments, bits=bits))
    each(results, assert_equal, oracle.average_pool(case.x, case.pooling, bits))
    each(results, assert_near, oracle.exact_average(case.x, case.pooling), bits)


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 6, 2]))
def test_average_pool_backward(on_every_isa, case, bits):
    results = on_every_isa(
        lambda: kernels.average_pool_backward(
            tensor(case.dy), case.shape, *case.arguments, bits=bits
        )
    )
    expected = oracle.average_pool_gradient(case.dy, case.shape, case.pooling, bits)
    each(results, assert_equal, expected)
    exact = oracle.exact_average_gradient(case.dy, case.shape, case.pooling)
    each(results, assert_near, exact, bits)


@pytest.mark.slow
@EVERY_LARGER_CASE
def test_average_pool_of_many_pixels(
    on_every_isa, on_every_thread_count, shape, pool_size, strides, padding
):
    case = larger_case(shape, pool_size, strides, padding, "random")
    everywhere = on_every_isa, on_every_thread_count
    x, dy = tensor(case.x), tensor(case.dy)
    y = assert_same_everywhere(lambda: kernels.average_pool(x, *case.arguments), *everywhere)
    assert_equal(y, oracle.average_pool(case.x, case.pooling, 14))
    dx = assert_same_everywhere(
        lambda: kernels.average_pool_backward(dy, shape, *case.arguments), *everywhere
    )
    assert_equal(dx, oracle.average_pool_gradient(case.dy, shape, case.pooling, 15))


@settings(max_examples=40)
@given(cases())
def test_average_pool_is_that_of_tensorflow(case):
    x, dy = (values(operand).astype(np.float32) for operand in (case.x, case.dy))
    pool_size, strides, padding = case.arguments
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        y = tf.nn.avg_pool2d(inputs, pool_size, strides, padding.upper())
    dx = tape.gradient(y, inputs, output_gradients=tf.constant(dy))
    result = kernels.average_pool(tensor(case.x), *case.arguments, bits=15)
    assert_near(result, y.numpy().astype(np.float64), 15)
    result = kernels.average_pool_backward(tensor(case.dy), case.shape, *case.arguments)
    assert_near(result, dx.numpy().astype(np.float64), 15)


def test_averages_gain_the_bits_that_x_does_not_use():
    x = DFPTensor(np.int16([1, 2, 2, 2]).reshape(1, 2, 2, 1), 0)
    y = kernels.average_pool(x, 2, bits=15)
    assert (y.exponent, y.data.item()) == (-13, 7 * 2**13 // 4)


# --- whole images ---------------------------------------------------------------------------

IMAGES = [(1, 1, 1, 1), (2, 7, 7, 300), (3, 5, 4, 17), (1, 9, 1, 600), (2, 300, 240, 3)]
EVERY_IMAGE = pytest.mark.parametrize("shape", IMAGES, ids=str)


def images(shape, kind="ties", bits=15):
    case = Case(shape, oracle.Pooling((1, 1), (1, 1), "valid"), kind, bits, 3)
    return case.x, case.operand((shape[0], shape[3]), 1)


@EVERY_IMAGE
@pytest.mark.parametrize("kind", ["random", "largest"])
def test_global_average_pool(on_every_isa, on_every_thread_count, shape, kind):
    x, _ = images(shape, kind)
    result = assert_same_everywhere(
        lambda: kernels.global_average_pool(tensor(x)), on_every_isa, on_every_thread_count
    )
    sums = x.data.astype(np.int64).sum(axis=(1, 2))
    mean = np.ldexp(sums / (shape[1] * shape[2]), x.exponent)
    np.testing.assert_array_equal(result, mean.astype(np.float32))


@EVERY_IMAGE
def test_global_average_pool_backward(on_every_isa, on_every_thread_count, shape):
    _, dy = images(shape)
    floats = values(dy).astype(np.float32)
    for gradient in (tensor(dy), floats):
        dx = assert_same_everywhere(
            lambda dy=gradient: kernels.global_average_pool_backward(dy, shape, 13),
            on_every_isa,
            on_every_thread_count,
        )
        share = reference.quantize(floats / np.float32(shape[1] * shape[2]), 13)
        expected = np.broadcast_to(share.data[:, None, None], shape)
        assert_equal(dx, reference.Operand(expected, share.exponent))


@EVERY_IMAGE
@pytest.mark.parametrize(("kind", "bits"), [("random", 15), ("random", 2), ("zeros", 15)])
def test_global_max_pool(on_every_isa, on_every_thread_count, shape, kind, bits):
    x, dy = images(shape, kind, bits)
    if shape[1] * shape[2] > 2**16:
        with pytest.raises(ValueError, match="65535"):
            kernels.global_max_pool(tensor(x))
        return
    everywhere = on_every_isa, on_every_thread_count
    y = assert_same_everywhere(lambda: kernels.global_max_pool(tensor(x)), *everywhere)
    assert_equal(y, reference.Operand(x.data.max(axis=(1, 2)), x.exponent))
    dx = assert_same_everywhere(
        lambda: kernels.global_max_pool_backward(tensor(dy), tensor(x), y), *everywhere
    )
    hit = x.data == y.data[:, None, None]
    counts = hit.sum(axis=(1, 2)).astype(np.float32)
    share = reference.quantize(values(dy).astype(np.float32) / counts)
    assert dx.exponent == share.exponent
    np.testing.assert_array_equal(dx.data, np.where(hit, share.data[:, None, None], 0))


def test_global_max_pool_shares_as_tensorflow_does():
    x, dy = images((3, 4, 5, 37), "ties")
    with tf.GradientTape() as tape:
        inputs = tf.constant(values(x).astype(np.float32))
        tape.watch(inputs)
        y = tf.reduce_max(inputs, [1, 2])
    expected = tape.gradient(y, inputs, output_gradients=tf.constant(values(dy), tf.float32))
    y = kernels.global_max_pool(tensor(x))
    dx = kernels.global_max_pool_backward(tensor(dy), tensor(x), y)
    assert_near(dx, expected.numpy().astype(np.float64), 15)


# --- what is not finite, or empty -----------------------------------------------------------

NONFINITE = DFPTensor(np.zeros((2, 4, 4, 3), np.int16), NONFINITE_EXPONENT)
FINITE = DFPTensor(np.ones((2, 4, 4, 3), np.int16), 0)


def pooled(x):
    return DFPTensor(np.zeros((2, 2, 2, 3), np.int16), x.exponent)


def reduced(x):
    return DFPTensor(np.zeros((2, 3), np.int16), x.exponent)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernels.max_pool(NONFINITE, 2),
        lambda: kernels.average_pool(NONFINITE, 2),
        lambda: kernels.global_max_pool(NONFINITE),
        lambda: kernels.max_pool_backward(pooled(FINITE), NONFINITE, pooled(FINITE), 2),
        lambda: kernels.max_pool_backward(pooled(FINITE), FINITE, pooled(NONFINITE), 2),
        lambda: kernels.max_pool_backward(pooled(NONFINITE), FINITE, pooled(FINITE), 2),
        lambda: kernels.max_pool_backward(
            np.full((2, 2, 2, 3), np.inf, np.float32), FINITE, pooled(FINITE), 2
        ),
        lambda: kernels.average_pool_backward(pooled(NONFINITE), (2, 4, 4, 3), 2),
        lambda: kernels.global_average_pool_backward(reduced(NONFINITE), (2, 4, 4, 3)),
        lambda: kernels.global_max_pool_backward(reduced(NONFINITE), FINITE, reduced(FINITE)),
        lambda: kernels.global_max_pool_backward(reduced(FINITE), NONFINITE, reduced(FINITE)),
        lambda: kernels.global_max_pool_backward(
            np.full((2, 3), np.nan, np.float32), FINITE, reduced(FINITE)
        ),
    ],
)
def test_what_is_not_finite_spreads(call):
    result = call()
    assert result.exponent == NONFINITE_EXPONENT
    assert np.isnan(result.dequantize()).all()


def test_a_global_average_of_what_is_not_finite_is_nan():
    assert np.isnan(kernels.global_average_pool(NONFINITE)).all()


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 0)])
def test_empty_batches_and_channels(shape):
    x = DFPTensor(np.zeros(shape, np.int16), 0)
    small = (shape[0], 2, 2, shape[3])
    for y in (kernels.max_pool(x, 2), kernels.average_pool(x, 2)):
        assert y.shape == small
    assert kernels.max_pool_backward(y, x, y, 2).shape == shape
    assert kernels.average_pool_backward(y, shape, 2).shape == shape
    y = kernels.global_max_pool(x)
    assert y.shape == kernels.global_average_pool(x).shape == (shape[0], shape[3])
    assert kernels.global_max_pool_backward(y, x, y).shape == shape
    assert kernels.global_average_pool_backward(y, shape).shape == shape

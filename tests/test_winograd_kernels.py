"""Winograd's convolutions against their oracle, on every ISA, and how much noise they add."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import reference
import reference_winograd as oracle
from checks import tensor
from hypothesis import given
from hypothesis import strategies as st
from strategies import DATA_KINDS, operand, seeds

import dfpkeras
from dfpkeras import kernels

ALGORITHMS = tuple(oracle.WINOGRAD)
EACH_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS)


@dataclass(frozen=True)
class Case:
    """Operands of a 3x3 convolution."""

    x: reference.Operand
    w: reference.Operand
    dy: reference.Operand
    padding: str
    bias: np.ndarray | None

    def kernels(self, algorithm):
        """Functions that call the kernels: forward, backward_data, backward_weights."""
        x, w, dy = tensor(self.x), tensor(self.w), tensor(self.dy)
        options = {"padding": self.padding, "algorithm": algorithm}
        return (
            partial(kernels.conv2d_forward, x, w, bias=self.bias, **options),
            partial(kernels.conv2d_backward_data, dy, w, x.shape, **options),
            partial(kernels.conv2d_backward_weights, x, dy, w.shape, **options),
        )

    def oracles(self, algorithm):
        """Functions that say what the results must be."""
        arguments = algorithm, self.dy, self.w, self.x.data.shape, self.padding
        return (
            partial(oracle.forward, algorithm, self.x, self.w, self.padding, self.bias),
            partial(oracle.backward_data, *arguments),
            partial(oracle.backward_weights, algorithm, self.x, self.dy, self.padding),
        )

    def results(self, algorithm):
        """Those of the kernels."""
        return tuple(call() for call in self.kernels(algorithm))

    def expected(self, algorithm):
        """What they must be."""
        return tuple(call() for call in self.oracles(algorithm))

    def check(self, algorithm, everywhere):
        """Compares the kernels with the oracle, which is slow and asked once, on every ISA or
        thread count."""
        expected = self.expected(algorithm)
        for results in everywhere(partial(self.results, algorithm)).values():
            for result, wanted in zip(results, expected, strict=True):
                reference.assert_same_bits(result, wanted)


def make_case(seed, batch, height, width, channels, filters, padding, kinds, bits, bias):
    rng = np.random.default_rng(seed)
    x_shape, w_shape = (batch, height, width, channels), (3, 3, channels, filters)
    y_shape = reference.output_shape(x_shape, w_shape, 1, padding)
    signs = [rng.choice(np.array([-1, 1], np.float32), n) for n in (channels, filters)]
    x = operand(rng, x_shape, kinds[0], bits[0], signs[0])
    w = operand(rng, w_shape, kinds[1], bits[1], np.outer(*signs))
    dy = operand(rng, y_shape, kinds[0], bits[2], signs[1])
    return Case(
        x, w, dy, padding, rng.standard_normal(filters).astype(np.float32) if bias else None
    )


@st.composite
def cases(draw):
    padding = draw(st.sampled_from(["same", "valid"]))
    least = 1 if padding == "same" else 3
    height, width = draw(st.integers(least, 13)), draw(st.integers(least, 13))
    return make_case(
        draw(seeds),
        draw(st.integers(1, 3)),
        height,
        width,
        draw(st.integers(1, 40)),
        draw(st.integers(1, 80)),
        padding,
        draw(st.tuples(st.sampled_from(DATA_KINDS), st.sampled_from(DATA_KINDS))),
        draw(st.tuples(*[st.sampled_from([3, 12, 14, 15])] * 3)),
        draw(st.booleans()),
    )


@pytest.mark.slow
@EACH_ALGORITHM
@given(case=cases())
def test_matches_oracle(algorithm, on_every_isa, case):
    case.check(algorithm, on_every_isa)


NAMED_CASES = {
    "one pixel": (1, 1, 1, 1, 1, "same"),
    "a row": (1, 1, 9, 3, 5, "same"),
    "odd everything": (3, 7, 5, 33, 65, "same"),
    "several chunks and parts": (5, 13, 12, 5, 3, "valid"),
    "many chunks and parts": (3, 46, 46, 3, 4, "same"),
    "channels of several tasks": (1, 4, 4, 130, 140, "same"),
}


@EACH_ALGORITHM
@pytest.mark.parametrize("kind", ["normal", "aligned_max"])
@pytest.mark.parametrize("name", NAMED_CASES)
def test_named_cases(algorithm, kind, name, on_every_isa):
    case = make_case(7, *NAMED_CASES[name], (kind, kind), (15, 15, 15), True)
    case.check(algorithm, on_every_isa)


def decibels(exact, result):
    noise = np.sum((exact - result) ** 2)
    return 10 * np.log10(np.sum(exact**2) / noise)


@pytest.mark.parametrize(
    ("algorithm", "least"), [("winograd_2x2", (63, 62, 68)), ("winograd_4x4", (54, 52, 58))]
)
def test_noise(algorithm, least):
    """Of forward, backward_data and backward_weights in dB, on realistic operands: activations
    after a ReLU, weights, long-tailed gradients. F(2x2) is within 4 dB of the direct algorithm."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((2, 14, 14, 128)), 0).astype(np.float32)
    w = rng.standard_normal((3, 3, 128, 128)).astype(np.float32)
    dy = rng.standard_t(4, (2, 14, 14, 128)).astype(np.float32)
    tensors = [reference.quantize(a, bits) for a, bits in ((x, 14), (w, 12), (dy, 15))]
    qx, qw, qdy = map(tensor, tensors)
    fine_x, fine_w, fine_dy = (np.round(a * 2.0**20).astype(np.int64) for a in (x, w, dy))
    exact = (
        reference.forward(fine_x, fine_w, padding="same"),
        reference.backward_data(fine_dy, fine_w, x.shape, padding="same"),
        reference.backward_weights(fine_x, fine_dy, w.shape, padding="same"),
    )
    noise = {}
    for name in ("direct", algorithm):
        options = {"padding": "same", "algorithm": name}
        results = (
            kernels.conv2d_forward(qx, qw, **options),
            kernels.conv2d_backward_data(qdy, qw, x.shape, **options),
            kernels.conv2d_backward_weights(qx, qdy, w.shape, **options),
        )
        noise[name] = [
            decibels(np.ldexp(integers.astype(float), -40), result)
            for integers, result in zip(exact, results, strict=True)
        ]
    assert all(np.array(noise[algorithm]) >= least), noise
    if algorithm == "winograd_2x2":
        assert all(np.subtract(noise["direct"], noise[algorithm]) <= 4), noise


@EACH_ALGORITHM
@pytest.mark.parametrize("shape", [(2, 13, 12, 70, 66), (3, 46, 46, 3, 4)])
def test_every_thread_count(algorithm, shape, on_every_thread_count):
    """More blocks of channels, and more chunks of tiles, than threads."""
    case = make_case(3, *shape, "same", ("normal", "normal"), (14, 12, 15), False)
    case.check(algorithm, on_every_thread_count)


@EACH_ALGORITHM
@pytest.mark.parametrize("bias", [False, True])
def test_channel_range(algorithm, bias, on_every_thread_count):
    case = make_case(5, 2, 9, 7, 20, 70, "same", ("normal", "normal"), (14, 12, 15), bias)
    call = {"padding": "same", "algorithm": algorithm, "bias": case.bias}
    results = on_every_thread_count(
        lambda: kernels.conv2d_forward(
            tensor(case.x), tensor(case.w), with_channel_range=True, **call
        )
    )
    for y, channel_range in results.values():
        pixels = y.reshape(-1, 70)
        np.testing.assert_array_equal(channel_range, [pixels.min(0), pixels.max(0)])


@EACH_ALGORITHM
def test_nan_and_nothing(algorithm):
    x = dfpkeras.quantize(np.full((1, 5, 5, 4), np.nan, np.float32))
    w = dfpkeras.quantize(np.ones((3, 3, 4, 6), np.float32))
    options = {"padding": "same", "algorithm": algorithm}
    assert np.isnan(kernels.conv2d_forward(x, w, **options)).all()
    nothing = dfpkeras.quantize(np.zeros((0, 5, 5, 4), np.float32))
    assert kernels.conv2d_forward(nothing, w, **options).shape == (0, 5, 5, 6)
    none = dfpkeras.quantize(np.zeros((0, 5, 5, 6), np.float32))
    assert not kernels.conv2d_backward_weights(nothing, none, w.shape, **options).any()

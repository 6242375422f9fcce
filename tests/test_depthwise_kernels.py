"""Depthwise convolution against its oracle, on every instruction set and thread count."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import reference
import reference_depthwise as oracle
from checks import tensor
from hypothesis import given
from hypothesis import strategies as st
from strategies import DATA_KINDS, data_profile, operand

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

CHANNELS = [1, 2, 3, 8, 15, 16, 17, 32, 33, 48, 64, 65, 80, 96, 130]


@dataclass(frozen=True)
class Case:
    """Shapes, options and quantised operands of one depthwise convolution."""

    input_shape: tuple
    kernel_shape: tuple
    strides: tuple
    padding: str
    dilation_rate: tuple
    kinds: tuple
    bits: tuple
    seed: int

    @property
    def options(self):
        names = "strides", "padding", "dilation_rate"
        return {name: getattr(self, name) for name in names}

    @property
    def grouped(self):
        return oracle.options_of(self.input_shape[3], **self.options)

    @property
    def output_shape(self):
        kernel = (*self.kernel_shape[:2], 1, self.kernel_shape[2] * self.kernel_shape[3])
        return reference.output_shape(self.input_shape, kernel, **self.grouped)

    def _operand(self, stream, shape, index):
        rng = np.random.default_rng([self.seed, stream])
        return operand(rng, shape, self.kinds[index], self.bits[index])

    @cached_property
    def x(self):
        return self._operand(2, self.input_shape, 0)

    @cached_property
    def w(self):
        return self._operand(3, self.kernel_shape, 1)

    @cached_property
    def dy(self):
        return self._operand(4, self.output_shape, 1)


@st.composite
def axes(draw):
    """(size, kernel, stride, dilation), the input at least as large as the kernel."""
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 3))
    size = (kernel - 1) * dilation + 1 + draw(st.integers(0, 12))
    return size, kernel, stride, dilation


@st.composite
def cases(draw, kinds=None):
    rows, columns = draw(axes()), draw(axes())
    channels, multiplier = draw(st.sampled_from(CHANNELS)), draw(st.sampled_from([1, 1, 1, 2, 3]))
    seed = draw(st.integers(0, 2**32 - 1))
    drawn_kinds, bits = data_profile(seed)
    return Case(
        (draw(st.integers(1, 2)), rows[0], columns[0], channels),
        (rows[1], columns[1], channels, multiplier),
        (rows[2], columns[2]),
        draw(st.sampled_from(["valid", "same"])),
        (rows[3], columns[3]),
        kinds or drawn_kinds,
        bits,
        seed,
    )


def case(input_shape, kernel_shape, strides=1, padding="same", dilation_rate=1, **changed):
    settings = {"kinds": ("normal", "heavy_tailed"), "bits": (14, 15), "seed": 3} | changed
    strides, dilation_rate = reference.pair(strides), reference.pair(dilation_rate)
    return Case(input_shape, kernel_shape, strides, padding, dilation_rate, **settings)


NAMED_CASES = {
    "single_pixel": case((1, 1, 1, 1), (1, 1, 1, 1)),
    "single_pixel_under_a_large_kernel": case((2, 1, 1, 20), (3, 5, 20, 1)),
    "mobilenet": case((2, 14, 14, 96), (3, 3, 96, 1)),
    "mobilenet_stride": case((2, 15, 14, 72), (3, 3, 72, 1), strides=2),
    "stride_beyond_the_kernel": case((1, 11, 12, 20), (2, 1, 20, 1), strides=3, padding="valid"),
    "stride_beyond_the_input": case((1, 3, 2, 5), (1, 1, 5, 2), strides=5),
    "dilation": case((1, 13, 12, 33), (3, 3, 33, 1), dilation_rate=(2, 3)),
    "long_rows": case((1, 3, 333, 5), (3, 7, 5, 1)),
    "many_parts": case((9, 24, 24, 32), (3, 3, 32, 1)),
    "most_parts": case((3, 50, 4, 600), (3, 3, 600, 1)),
    "multiplier": case((2, 9, 8, 17), (3, 3, 17, 4)),
}
EVERY_NAMED_CASE = pytest.mark.parametrize("case", NAMED_CASES.values(), ids=NAMED_CASES)


def results(case):
    x, w, dy = (tensor(operand) for operand in (case.x, case.w, case.dy))
    return (
        kernels.depthwise_conv2d_forward(x, w, **case.options),
        kernels.depthwise_conv2d_backward_data(dy, w, case.input_shape, **case.options),
        kernels.depthwise_conv2d_backward_weights(x, dy, case.kernel_shape, **case.options),
    )


def expected(case):
    x, w, dy, options = case.x, case.w, case.dy, case.options
    return (
        oracle.scheduled_forward(x, w, **options),
        oracle.scheduled_backward_data(dy, w, case.input_shape, **options),
        oracle.scheduled_backward_weights(x, dy, case.kernel_shape, **options),
    )


def exact(case):
    """The integers, and the sums of the products' magnitudes."""
    operands = [operand.data for operand in (case.x, case.w, case.dy)]
    for x, w, dy in (operands, [np.abs(data.astype(np.int64)) for data in operands]):
        kernel = oracle.grouped(w)
        y = reference.forward(x, kernel, **case.grouped)
        dx = reference.backward_data(dy, kernel, case.input_shape, **case.grouped)
        dw = reference.backward_weights(x, dy, kernel.shape, **case.grouped)
        yield y, dx, dw.reshape(case.kernel_shape)


def check(case, on_every_isa):
    found, exponents = (
        on_every_isa(lambda: results(case)),
        (
            case.x.exponent + case.w.exponent,
            case.dy.exponent + case.w.exponent,
            case.x.exponent + case.dy.exponent,
        ),
    )
    scheduled, (integers, magnitudes) = expected(case), exact(case)
    taps = case.kernel_shape[0] * case.kernel_shape[1] * case.kernel_shape[3]
    flushes = taps + 1, taps + case.kernel_shape[3], case.dy.data.size // case.dy.data.shape[3] + 2
    for isa_results in found.values():
        for i, result in enumerate(isa_results):
            reference.assert_same_bits(result, scheduled[i])
            reference.assert_within_summation_bound(
                result, integers[i], magnitudes[i], flushes[i], exponents[i]
            )


@pytest.mark.slow
@given(case=cases())
def test_matches_oracle(on_every_isa, case):
    check(case, on_every_isa)


@pytest.mark.slow
@given(case=cases(kinds=("aligned_max", "aligned_max")))
def test_no_sum_overflows(on_every_isa, case):
    check(case, on_every_isa)


@EVERY_NAMED_CASE
def test_named_cases(on_every_isa, case):
    check(case, on_every_isa)


@EVERY_NAMED_CASE
def test_any_number_of_threads_gives_the_same_bits(on_every_thread_count, case):
    one, *others = on_every_thread_count(lambda: results(case)).values()
    for other in others:
        for left, right in zip(one, other, strict=True):
            reference.assert_same_bits(left, right)


@pytest.mark.parametrize("kind", DATA_KINDS)
@pytest.mark.parametrize("bits", [2, 12, 13, 14, 15])
def test_every_width(on_every_isa, kind, bits):
    check(case((1, 9, 40, 70), (3, 3, 70, 1), kinds=(kind, kind), bits=(bits, bits)), on_every_isa)


def test_weights_of_one_channel_alone_need_several_runs(on_every_isa):
    """Of the blocks of 64 channels, only that of channel 70 is cut."""
    x = np.full((1, 5, 5, 130), 32767, np.int16)
    w = np.ones((3, 3, 130, 1), np.int16)
    w[:, :, 70] = 32767
    arguments = {"strides": 1, "padding": "same", "dilation_rate": 1}
    operands = reference.Operand(x, 0), reference.Operand(w, 0)
    expected = oracle.scheduled_forward(*operands, **arguments)
    for y in on_every_isa(
        lambda: kernels.depthwise_conv2d_forward(*map(tensor, operands), **arguments)
    ).values():
        reference.assert_same_bits(y, expected)


@pytest.mark.parametrize("channels", [5, 64, 70])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_bias(on_every_isa, channels, multiplier):
    chosen = case((2, 6, 7, channels), (3, 3, channels, multiplier))
    bias = np.random.default_rng(0).standard_normal(channels * multiplier).astype(np.float32)
    x, w = tensor(chosen.x), tensor(chosen.w)
    expected = oracle.scheduled_forward(chosen.x, chosen.w, **chosen.options, bias=bias)
    for y in on_every_isa(
        lambda: kernels.depthwise_conv2d_forward(x, w, **chosen.options, bias=bias)
    ).values():
        reference.assert_same_bits(y, expected)


@pytest.mark.parametrize("which", range(3))
def test_an_operand_that_is_not_finite_makes_nan(which):
    chosen = NAMED_CASES["multiplier"]
    operands = [tensor(operand) for operand in (chosen.x, chosen.w, chosen.dy)]
    operands[which] = dfpkeras.quantize(np.full(operands[which].shape, np.nan, np.float32))
    x, w, dy = operands
    found = (
        kernels.depthwise_conv2d_forward(x, w, **chosen.options),
        kernels.depthwise_conv2d_backward_data(dy, w, x.shape, **chosen.options),
        kernels.depthwise_conv2d_backward_weights(x, dy, w.shape, **chosen.options),
    )
    needs = (0, 1), (2, 1), (0, 2)
    for result, operands_of_result in zip(found, needs, strict=True):
        assert np.isnan(result).all() == (which in operands_of_result)
        assert np.isnan(result).any() == (which in operands_of_result)


def test_no_image_at_all():
    x, dy = (DFPTensor(np.zeros((0, 6, 6, 5), np.int16), 0) for _ in range(2))
    w = DFPTensor(np.ones((3, 3, 5, 1), np.int16), 0)
    assert kernels.depthwise_conv2d_forward(x, w, padding="same").shape == (0, 6, 6, 5)
    assert kernels.depthwise_conv2d_backward_data(dy, w, x.shape, padding="same").size == 0
    dw = kernels.depthwise_conv2d_backward_weights(x, dy, w.shape, padding="same")
    np.testing.assert_array_equal(dw, np.zeros(w.shape))


# --- bad arguments --------------------------------------------------------------------------


def ones(*shape):
    return DFPTensor(np.ones(shape, np.int16), 0)


FITTING = {
    "forward": {"x": ones(2, 8, 9, 4), "w": ones(3, 3, 4, 2)},
    "backward_data": {
        "dy": ones(2, 6, 7, 8),
        "w": ones(3, 3, 4, 2),
        "input_shape": (2, 8, 9, 4),
    },
    "backward_weights": {
        "x": ones(2, 8, 9, 4),
        "dy": ones(2, 6, 7, 8),
        "kernel_shape": (3, 3, 4, 2),
    },
}
EVERY_FUNCTION = pytest.mark.parametrize("function", FITTING)


def call(function, **changed):
    return getattr(kernels, f"depthwise_conv2d_{function}")(**FITTING[function] | changed)


@EVERY_FUNCTION
def test_the_arguments_of_these_tests_fit(function):
    assert call(function).all()


@EVERY_FUNCTION
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"strides": 0}, ValueError, "strides: expected integers of at least 1, got 0"),
        ({"strides": 1.5}, TypeError, "strides: expected an integer"),
        ({"dilation_rate": (1, 2, 3)}, ValueError, "dilation_rate: expected an integer or a pair"),
        ({"padding": "causal"}, ValueError, "padding: expected 'valid' or 'same', got 'causal'"),
        ({"dilation_rate": 9}, ValueError, "at least the kernel's extent"),
    ],
)
def test_bad_options(function, changed, error, message):
    with pytest.raises(error, match=message):
        call(function, **changed)


@pytest.mark.parametrize(
    ("function", "changed", "message"),
    [
        (
            "forward",
            {"w": ones(3, 3, 5, 2)},
            r"w: expected 4 channels, as in x.*got shape \(3, 3, 5, 2\)",
        ),
        ("forward", {"w": ones(3, 3, 4, 0)}, r"a depth multiplier of at least 1, .*\(3, 3, 4, 0\)"),
        ("forward", {"w": ones(3, 3, 4)}, r"w: expected 4 dimensions, got shape \(3, 3, 4\)"),
        ("forward", {"bias": np.ones(4, np.float32)}, r"bias: expected .* shape \(8,\)"),
        (
            "backward_data",
            {"dy": ones(2, 6, 7, 4)},
            r"dy: expected the shape \(2, 6, 7, 8\) .*\(2, 6, 7, 4\)",
        ),
        ("backward_weights", {"kernel_shape": (3, 3, 4)}, "kernel_shape: expected 4 sizes"),
    ],
)
def test_shapes_that_do_not_fit(function, changed, message):
    with pytest.raises(ValueError, match=message):
        call(function, **changed)


@pytest.mark.parametrize(
    ("function", "name"), [("forward", "x"), ("backward_data", "dy"), ("backward_weights", "dy")]
)
def test_operands_must_be_tensors(function, name):
    value = np.ones(FITTING[function][name].shape, np.float32)
    with pytest.raises(TypeError, match=rf"{name}: expected a DFPTensor .*, got float32"):
        call(function, **{name: value})

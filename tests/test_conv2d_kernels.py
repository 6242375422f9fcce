"""The three convolution kernels against the oracle, on every ISA."""

import numpy as np
import pytest
import reference
from checks import (
    OPERATIONS,
    check_backward_data,
    check_backward_weights,
    check_forward,
    result_shape,
    run,
    run_case,
    tensor,
)
from hypothesis import given
from strategies import ConvolutionCase, convolution_cases

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

CHECKS = pytest.mark.parametrize(
    "check",
    [check_forward, check_backward_data, check_backward_weights],
    ids=["forward", "backward_data", "backward_weights"],
)


@pytest.mark.slow
@CHECKS
@given(case=convolution_cases())
def test_matches_oracle(check, on_every_isa, case):
    check(case, on_every_isa)


@pytest.mark.slow
@CHECKS
@given(case=convolution_cases(kinds=("aligned_max", "aligned_max")))
def test_matches_oracle_on_adversarial_data(check, on_every_isa, case):
    check(case, on_every_isa)


def case(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1, **rest):
    settings = {"kinds": ("normal", "normal"), "bits": (15, 15), "seed": 7, "flush": None} | rest
    return ConvolutionCase(
        input_shape,
        kernel_shape,
        reference.pair(strides),
        padding,
        reference.pair(dilation_rate),
        groups,
        **settings,
    )


NAMED_CASES = {
    "single_pixel": case((1, 1, 1, 1), (1, 1, 1, 1)),
    "single_pixel_many_channels": case((1, 1, 1, 130), (1, 1, 130, 70)),
    "kernel_wider_than_same_input": case((2, 2, 3, 5), (7, 7, 5, 9), padding="same"),
    "kernel_equals_valid_input": case((3, 5, 4, 7), (5, 4, 7, 3)),
    "stem": case((1, 23, 25, 3), (7, 7, 3, 64), strides=2, padding="same"),
    "pointwise_stride_2": case((2, 7, 9, 33), (1, 1, 33, 65), strides=2),
    "stride_beyond_kernel": case((2, 11, 10, 6), (2, 1, 6, 20), strides=(3, 3)),
    "stride_beyond_input": case((1, 2, 2, 4), (1, 1, 4, 4), strides=(3, 3)),
    "stride_with_dilation": case((2, 13, 12, 5), (3, 3, 5, 8), (2, 3), "same", (3, 2)),
    "equal_stride_and_dilation": case((1, 14, 14, 6), (3, 3, 6, 10), 2, "same", 2),
    "asymmetric_stride": case((1, 9, 17, 4), (3, 5, 4, 12), strides=(1, 3)),
    "asymmetric_dilation": case((2, 9, 12, 3), (3, 3, 3, 17), dilation_rate=(1, 3)),
    "dilated_rows_only": case((2, 12, 9, 3), (3, 3, 3, 17), dilation_rate=(3, 1)),
    "depthwise": case((2, 9, 9, 70), (3, 3, 1, 70), padding="same", groups=70),
    "depthwise_multiplier_stride": case((1, 9, 10, 6), (3, 3, 1, 18), 2, "same", 1, 6),
    "groups_of_many_columns": case((1, 5, 5, 8), (3, 3, 4, 260), padding="same", groups=2),
    "groups_of_odd_channels": case((2, 6, 7, 15), (2, 3, 5, 21), padding="same", groups=3),
    "one_row": case((2, 1, 40, 8), (1, 9, 8, 16), padding="same"),
    "one_column": case((2, 40, 1, 8), (9, 1, 8, 16), padding="same"),
    "several_blocks_of_rows": case((3, 40, 41, 3), (3, 3, 3, 5)),
    "several_blocks_of_pixels": case((3, 33, 35, 4), (1, 1, 4, 6)),
    "more_blocks_than_parts": case((2, 100, 103, 2), (1, 1, 2, 3)),
    "row_longer_than_a_block": case((1, 3, 1100, 2), (2, 2, 2, 3)),
    "exact_in_fp32": case((3, 8, 9, 9), (3, 3, 9, 9), 2, "same", bits=(4, 5)),
}


@CHECKS
@pytest.mark.parametrize("named", NAMED_CASES.values(), ids=NAMED_CASES.keys())
def test_named_shape(check, on_every_isa, named):
    check(named, on_every_isa)


@OPERATIONS
@pytest.mark.parametrize("named", ["single_pixel", "stem", "groups_of_odd_channels"])
def test_result_is_aligned_contiguous_float32(operation, named):
    chosen = NAMED_CASES[named]
    result = run_case(operation, chosen)
    assert result.dtype == np.float32
    assert result.shape == result_shape(operation, chosen)
    assert result.flags.c_contiguous
    assert result.ctypes.data % 64 == 0


@OPERATIONS
def test_results_in_use_are_never_overwritten(operation):
    """Output memory comes from a pool: it may be reused only after the last reference is gone."""
    chosen = NAMED_CASES["groups_of_odd_channels"]
    first = run_case(operation, chosen)
    expected = first[..., :1].copy()
    view = first[..., :1]
    del first
    for other in [run_case(operation, chosen) for _ in range(4)]:
        other.fill(-1.0)
    np.testing.assert_array_equal(view, expected)


@OPERATIONS
def test_read_only_operands_are_unchanged(operation):
    chosen = NAMED_CASES["stride_with_dilation"]
    before = [chosen.x.data.copy(), chosen.w.data.copy(), chosen.dy.data.copy()]
    for data in (chosen.x.data, chosen.w.data, chosen.dy.data):
        data.flags.writeable = False
    run_case(operation, chosen)
    for data, copy in zip((chosen.x.data, chosen.w.data, chosen.dy.data), before, strict=True):
        np.testing.assert_array_equal(data, copy)


@pytest.mark.parametrize(
    "two", [2, [2, 2], np.int64(2), (np.int32(2), 2)], ids=["int", "list", "int64", "int32"]
)
def test_options_accept_integers_lists_and_numpy_integers(two):
    chosen = NAMED_CASES["equal_stride_and_dilation"]
    result = kernels.conv2d_forward(
        tensor(chosen.x), tensor(chosen.w), strides=two, padding="same", dilation_rate=two
    )
    expected = reference.scheduled_forward(chosen.x, chosen.w, (2, 2), "same", (2, 2)).result
    reference.assert_same_bits(result, expected)


@OPERATIONS
@pytest.mark.parametrize("which", ["x", "w", "dy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_operand_gives_all_nan(on_every_isa, operation, which, value):
    chosen = NAMED_CASES["groups_of_odd_channels"]
    operands = {"x": tensor(chosen.x), "w": tensor(chosen.w), "dy": tensor(chosen.dy)}
    values = np.ones(operands[which].shape, np.float32)
    values.flat[values.size // 2] = value
    operands[which] = dfpkeras.quantize(values)
    used = {"forward": ("x", "w"), "backward_data": ("dy", "w"), "backward_weights": ("x", "dy")}
    for result in on_every_isa(lambda: run(operation, **operands, case=chosen)).values():
        assert result.shape == result_shape(operation, chosen)
        assert np.isnan(result).all() == (which in used[operation])


@OPERATIONS
@pytest.mark.parametrize(
    "exponents", [(126, 126), (60, 45), (-128, -128), (-80, -90), (-75, -82), (-70, -79)]
)
def test_exponents_beyond_fp32_behave_like_ldexp(on_every_isa, operation, exponents):
    """Inf above FP32's range, one correct rounding to a denormal or zero below it."""
    chosen = case((1, 4, 5, 3), (2, 2, 3, 4))
    left, right = exponents
    x, dy_left = DFPTensor(chosen.x.data, left), DFPTensor(chosen.dy.data, left)
    w, dy_right = DFPTensor(chosen.w.data, right), DFPTensor(chosen.dy.data, right)
    dy = dy_right if operation == "backward_weights" else dy_left
    zero_exponents = (DFPTensor(operand.data, 0) for operand in (x, w, dy))
    expected = reference.scale(run(operation, *zero_exponents, chosen), left + right)
    for result in on_every_isa(lambda: run(operation, x, w, dy, chosen)).values():
        reference.assert_same_bits(result, expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@OPERATIONS
def test_empty_batch(on_every_isa, operation, padding):
    """No images: an empty result, and a gradient of the weights that is zero."""
    empty = case((0, 5, 6, 4), (3, 3, 4, 8), strides=2, padding=padding)
    for result in on_every_isa(lambda: run_case(operation, empty)).values():
        expected = np.zeros(result_shape(operation, empty), np.float32)
        reference.assert_same_bits(result, expected)


def test_positions_no_tap_reaches_get_zero_gradient(on_every_isa):
    """A 1x1 kernel with stride 3 touches one position in nine."""
    chosen = case((2, 7, 8, 5), (1, 1, 5, 6), strides=3)
    touched = np.zeros((7, 8), bool)
    touched[::3, ::3] = True
    for result in on_every_isa(lambda: run_case("backward_data", chosen)).values():
        assert (result[:, ~touched].view(np.int32) == 0).all()
        assert (result[:, touched] != 0).all()

"""The three convolution kernels of volumes against the oracle, on every ISA."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_blocks
import reference_volumes
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
from hypothesis import given, settings
from strategies import ConvolutionCase, convolution_cases

from dfpkeras import kernels
from dfpkeras.kernels.convolution_plan import plan_of
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

CHECKS = pytest.mark.parametrize(
    "check",
    [check_forward, check_backward_data, check_backward_weights],
    ids=["forward", "backward_data", "backward_weights"],
)
VOXELS = (0, 1, 2, 3)


@pytest.mark.slow
@CHECKS
@settings(max_examples=150)
@given(case=convolution_cases(rank=3))
def test_matches_oracle(check, on_every_isa, case):
    check(case, on_every_isa)


def case(input_shape, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1, **rest):
    settings = {"kinds": ("normal", "normal"), "bits": (15, 15), "seed": 7, "flush": None} | rest
    return ConvolutionCase(
        input_shape,
        kernel_shape,
        reference_volumes.triple(strides),
        padding,
        reference_volumes.triple(dilation_rate),
        groups,
        **settings,
    )


NAMED_CASES = {
    "single_voxel": case((1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    "kernel_deeper_than_same_input": case((2, 2, 3, 4, 5), (5, 3, 1, 5, 9), padding="same"),
    "kernel_equals_valid_input": case((3, 4, 3, 5, 7), (4, 3, 5, 7, 3)),
    "one_plane": case((2, 1, 6, 7, 8), (3, 3, 3, 8, 16), padding="same"),
    "depth_only": case((2, 9, 3, 4, 8), (3, 1, 1, 8, 20), padding="same"),
    "planes_only": case((2, 4, 5, 6, 8), (1, 3, 3, 8, 20), padding="same"),
    "planes_only_with_a_stride": case((2, 7, 5, 6, 8), (1, 3, 3, 8, 20), (3, 1, 2)),
    "pointwise_stride": case((2, 5, 6, 7, 33), (1, 1, 1, 33, 65), (2, 1, 3)),
    "stride_beyond_kernel": case((2, 8, 7, 6, 6), (2, 1, 2, 6, 20), strides=3),
    "stride_beyond_input": case((1, 2, 2, 2, 4), (1, 1, 1, 4, 4), strides=3),
    "stride_with_dilation": case((2, 9, 8, 7, 5), (3, 2, 3, 5, 8), (2, 3, 1), "same", (3, 1, 2)),
    "few_channels": case((1, 7, 9, 10, 3), (3, 3, 3, 3, 12), (2, 2, 2), "same"),
    "one_channel": case((2, 6, 8, 8, 1), (3, 3, 3, 1, 8), padding="same"),
    "groups_of_odd_channels": case((2, 5, 6, 7, 15), (2, 2, 3, 5, 21), padding="same", groups=3),
    "several_blocks_of_rows": case((2, 5, 20, 21, 3), (3, 3, 3, 3, 5), padding="same"),
    "small_planes_share_a_block": case((3, 9, 4, 3, 6), (3, 3, 3, 6, 70), padding="same"),
    "several_blocks_of_pixels": case((2, 5, 13, 15, 4), (1, 1, 1, 4, 6)),
    "aligned_max": case(
        (2, 4, 5, 6, 20), (3, 3, 3, 20, 30), (2, 1, 2), "same", kinds=("aligned_max",) * 2
    ),
}


@CHECKS
@pytest.mark.parametrize("named", NAMED_CASES.values(), ids=NAMED_CASES.keys())
def test_named_shape(check, on_every_isa, named):
    check(named, on_every_isa)


@OPERATIONS
@pytest.mark.parametrize("which", ["x", "w", "dy"])
def test_nonfinite_operand_gives_all_nan(operation, which):
    chosen = NAMED_CASES["groups_of_odd_channels"]
    operands = {"x": tensor(chosen.x), "w": tensor(chosen.w), "dy": tensor(chosen.dy)}
    operands[which] = DFPTensor(operands[which].data * 0, NONFINITE_EXPONENT)
    used = {"forward": ("x", "w"), "backward_data": ("dy", "w"), "backward_weights": ("x", "dy")}
    result = run(operation, **operands, case=chosen)
    assert result.shape == result_shape(operation, chosen)
    assert np.isnan(result).all() == (which in used[operation])


@OPERATIONS
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_empty_batch(operation, padding):
    empty = case((0, 4, 5, 6, 4), (3, 3, 3, 4, 8), strides=2, padding=padding)
    expected = np.zeros(result_shape(operation, empty), np.float32)
    reference.assert_same_bits(run_case(operation, empty), expected)


@pytest.mark.parametrize(
    "name", ["small_planes_share_a_block", "stride_beyond_kernel", "planes_only"]
)
def test_blocks_bias_and_channel_range(on_every_isa, on_every_thread_count, name):
    """The FP32 results, which the oracle has, with what is added and made of them at once: in
    phases and in those that no tap reaches, and in one image for each plane."""
    chosen = NAMED_CASES[name]
    channels, filters = 16, 32
    wide = case(
        (*chosen.input_shape[:4], channels),
        (*chosen.kernel_shape[:3], channels, filters),
        chosen.strides,
        chosen.padding,
    )
    for of, result_channels in (("forward", filters), ("backward_data", channels)):
        bias = np.random.default_rng(1).standard_normal(result_channels).astype(np.float32)
        expected = run_case(of, wide) + bias
        block = reference_blocks.block_of(result_channels)
        data, scales = reference_blocks.to_blocks(expected, block)
        operands = (tensor(wide.x), tensor(wide.w))
        if of == "backward_data":
            operands = (tensor(wide.dy), tensor(wide.w), wide.input_shape)
        extra = {"with_channel_range": True} if of == "forward" else {}
        call = partial(
            wide.kernel(of), *operands, bias=bias, in_blocks=True, **wide.options, **extra
        )
        for by_threads in on_every_isa(lambda call=call: on_every_thread_count(call)).values():
            for result in by_threads.values():
                y, channel_range = result if extra else (result, None)
                np.testing.assert_array_equal(y.data, data)
                np.testing.assert_array_equal(y.scales, scales)
                if extra:
                    found = y.dequantize()
                    np.testing.assert_array_equal(
                        channel_range, [found.min(VOXELS), found.max(VOXELS)]
                    )


@OPERATIONS
@pytest.mark.parametrize("algorithm", ["direct", "winograd_2x2", "winograd_4x4"])
def test_kernels_of_depth_1_are_convolutions_of_planes(operation, algorithm):
    """With every algorithm that images have."""
    chosen = NAMED_CASES["planes_only"]

    def images(operand):
        return DFPTensor(operand.data.reshape(-1, *operand.data.shape[-3:]), operand.exponent)

    x, w, dy = tensor(chosen.x), tensor(chosen.w), tensor(chosen.dy)
    flat_w = DFPTensor(w.data[0], w.exponent)
    options = {"padding": "same", "algorithm": algorithm}
    if operation == "forward":
        result = kernels.conv3d_forward(x, w, **options)
        expected = kernels.conv2d_forward(images(x), flat_w, **options)
    elif operation == "backward_data":
        result = kernels.conv3d_backward_data(dy, w, x.shape, **options)
        shape = images(x).shape
        expected = kernels.conv2d_backward_data(images(dy), flat_w, shape, **options)
    else:
        result = kernels.conv3d_backward_weights(x, dy, w.shape, **options)
        expected = kernels.conv2d_backward_weights(images(x), images(dy), flat_w.shape, **options)
    reference.assert_same_bits(result, expected.reshape(result.shape))


@pytest.mark.parametrize("kernel_depth", [2, 3])
def test_a_kernel_with_depth_has_the_direct_algorithm(kernel_depth):
    """Even where the volume has a single plane."""
    shapes = (8, 1, 16, 16, 64), (kernel_depth, 3, 3, 64, 64)
    for direction in ("forward", "backward_data", "backward_weights"):
        plan = plan_of(direction, shapes, ("x", "w"), (1, "same", 1, 1), 0, "auto")
        assert plan.native.algorithm == "direct"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strides": (1, 2)}, ValueError, r"strides: expected an integer or three of them, got"),
        ({"dilation_rate": 0}, ValueError, "dilation_rate: expected integers of at least 1"),
        ({"strides": 1.5}, TypeError, "strides: expected"),
        ({"groups": 2}, ValueError, "groups: expected a divisor of the 3 channels of x"),
        ({"dilation_rate": (2, 1, 1)}, ValueError, r"x: with padding='valid' .* \(5, 2, 2\)"),
        ({"bias": np.zeros(3, np.float32)}, ValueError, r"bias: expected .* shape \(4,\)"),
    ],
)
def test_errors(arguments, error, message):
    x = DFPTensor(np.zeros((1, 4, 4, 4, 3), np.int16), 0)
    w = DFPTensor(np.zeros((3, 2, 2, 3, 4), np.int16), 0)
    with pytest.raises(error, match=message):
        kernels.conv3d_forward(x, w, **arguments)


def test_images_are_not_volumes():
    image = DFPTensor(np.zeros((4, 4, 4, 3), np.int16), 0)
    kernel = DFPTensor(np.zeros((1, 1, 1, 3, 4), np.int16), 0)
    with pytest.raises(ValueError, match=r"x: expected 5 dimensions, got shape \(4, 4, 4, 3\)"):
        kernels.conv3d_forward(image, kernel)

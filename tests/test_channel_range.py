"""Minimum and maximum of each channel, which a convolution finds while it writes."""

from functools import partial

import numpy as np
import pytest
from checks import tensor
from hypothesis import given
from strategies import convolution_cases

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

PIXELS = (0, 1, 2)


@pytest.mark.slow
@given(case=convolution_cases())
def test_channel_range_of_a_convolution(on_every_isa, on_every_thread_count, case):
    x, w = tensor(case.x), tensor(case.w)
    y = kernels.conv2d_forward(x, w, **case.options)
    call = partial(kernels.conv2d_forward, x, w, with_channel_range=True, **case.options)
    for by_threads in on_every_isa(lambda: on_every_thread_count(call)).values():
        for result, channel_range in by_threads.values():
            np.testing.assert_array_equal(result, y)
            np.testing.assert_array_equal(channel_range, [y.min(PIXELS), y.max(PIXELS)])


@pytest.mark.parametrize(
    ("shape", "kernel_shape", "groups"),
    [((3, 40, 41, 16), (3, 3, 16, 200), 1), ((2, 60, 30, 8), (1, 1, 4, 130), 2)],
    ids=str,
)
def test_channel_range_with_a_bias_over_many_tasks(
    on_every_isa, on_every_thread_count, shape, kernel_shape, groups
):
    rng = np.random.default_rng(3)
    x = DFPTensor(rng.integers(-9000, 9000, shape).astype(np.int16), -10)
    w = DFPTensor(rng.integers(-900, 900, kernel_shape).astype(np.int16), -10)
    bias = rng.standard_normal(kernel_shape[-1]).astype(np.float32) * 100
    options = {"padding": "same", "groups": groups, "bias": bias, "with_channel_range": True}
    call = partial(kernels.conv2d_forward, x, w, **options)
    for by_threads in on_every_isa(lambda: on_every_thread_count(call)).values():
        for y, channel_range in by_threads.values():
            np.testing.assert_array_equal(channel_range, [y.min(PIXELS), y.max(PIXELS)])


def test_channel_range_of_what_is_not_finite():
    x = DFPTensor(np.zeros((1, 3, 3, 2), np.int16), NONFINITE_EXPONENT)
    w = DFPTensor(np.ones((1, 1, 2, 4), np.int16), 0)
    _, channel_range = kernels.conv2d_forward(x, w, with_channel_range=True)
    assert np.isnan(channel_range).all()
    x = DFPTensor(np.ones((1, 3, 3, 2), np.int16), 0)
    bias = np.float32([0, np.nan, np.inf, 1])
    _, channel_range = kernels.conv2d_forward(x, w, bias=bias, with_channel_range=True)
    assert not np.isfinite(channel_range[:, 1:3]).any()
    np.testing.assert_array_equal(channel_range[:, [0, 3]], [[2, 3], [2, 3]])

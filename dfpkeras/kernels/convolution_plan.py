"""What is known of a convolution before its operands are: made once for each shape, and kept."""

import functools
import typing

from dfpkeras import _native
from dfpkeras.kernels.window_shapes import (
    check_padding,
    check_pair,
    convolution_geometry,
    output_shape,
)
from dfpkeras.runtime.argument_checks import check_integer
from dfpkeras.runtime.isa import get_isa

# A network has some hundred shapes; images of dynamic size make new ones without end.
_KEPT_PLANS = 4096


class Plan(typing.NamedTuple):
    """A convolution in one direction.

    Attributes:
        native: `_native.ConvolutionPlan`, which runs it.
        output_shape: of the forward result: (batch, height, width, filters).
    """

    native: _native.ConvolutionPlan
    output_shape: tuple[int, int, int, int]


def plan_of(
    direction, x_shape, x_name, w_shape, w_name, strides, padding, dilation_rate, groups
) -> Plan:
    """The plan of a convolution for the instruction set in use.

    Args:
        direction: "forward", "backward_data" or "backward_weights".
        x_shape, w_shape: (batch, height, width, channels) and (kernel height, kernel width,
            channels / groups, filters).
        x_name, w_name: what errors call them.
        strides, padding, dilation_rate, groups: as in `dfpkeras.kernels.conv2d_forward`.

    Raises:
        TypeError, ValueError: as in `dfpkeras.kernels.conv2d_forward`.
    """
    strides, dilation_rate = (
        check_pair("strides", strides),
        check_pair("dilation_rate", dilation_rate),
    )
    groups = check_integer("groups", groups)
    shapes = tuple(x_shape), x_name, tuple(w_shape), w_name
    return _make_plan(
        get_isa(), direction, *shapes, strides, check_padding(padding), dilation_rate, groups
    )


@functools.lru_cache(_KEPT_PLANS)
def _make_plan(
    _isa, direction, x_shape, x_name, w_shape, w_name, strides, padding, dilation_rate, groups
):
    _check_channels(x_shape, x_name, w_shape, w_name, groups)
    names = x_shape, x_name, w_shape, w_name, w_shape[3]
    geometry = convolution_geometry(*names, strides, padding, dilation_rate, groups)
    native = _native.ConvolutionPlan(direction, tuple(geometry.values()))
    return Plan(native, output_shape(geometry))


def _check_channels(x_shape, x_name, w_shape, w_name, groups):
    channels, group_channels, filters = x_shape[3], w_shape[2], w_shape[3]
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(
            f"groups: a divisor of the {channels} channels of {x_name} and the {filters} filters "
            f"of {w_name} is needed, got {groups}"
        )
    if group_channels * groups != channels or not group_channels or not filters:
        raise ValueError(
            f"{w_name}: {channels // groups} channels (the {channels} of {x_name} / {groups} "
            f"groups) and at least one filter are needed, got shape {w_shape}"
        )

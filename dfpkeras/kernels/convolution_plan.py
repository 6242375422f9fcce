"""What is known about a convolution before its operands: made once for each shape, and kept."""

import functools
import typing

from dfpkeras import _native
from dfpkeras.kernels.window_shapes import (
    check_padding,
    check_sizes,
    convolution_description,
    output_shape,
    planes_as_images,
)
from dfpkeras.runtime.argument_checks import check_integer
from dfpkeras.runtime.isa import get_isa

# A network has some hundred shapes; images of changing size keep adding new ones.
_KEPT_PLANS = 4096

#: What a layer ``y = x * w`` computes in training: y from x and w, the gradient dx from dy and w,
#: and dw from x and dy.
DIRECTIONS = ("forward", "backward_data", "backward_weights")

#: Names of the numerics classes (docs/numerics.md), each of which has an algorithm of that name.
NUMERICS = tuple(_native.NUMERICS)

#: Which of them each choice of `algorithm` allows.
ALGORITHMS = {
    "direct": ("direct",),
    "auto": NUMERICS,
    **{name: (name,) for name in NUMERICS},
}


class Plan(typing.NamedTuple):
    """A convolution in one direction.

    Attributes:
        native: `_native.ConvolutionPlan`, which runs it.
        output_shape: shape of the forward result: (batch, height, width, filters), of volumes
            (batch, depth, height, width, filters).
    """

    native: _native.ConvolutionPlan
    output_shape: tuple[int, ...]


def plan_of(direction, shapes, names, arguments, flush_every, algorithm) -> Plan:
    """The plan of a convolution for the instruction set in use.

    Args:
        direction: one of `DIRECTIONS`.
        shapes: shapes of x and w: (batch, height, width, channels) and (kernel height, kernel
            width, channels / groups, filters); of volumes, depth comes before height.
        names: names of the two in error messages.
        arguments: strides, padding, dilation_rate and groups, as in
            `dfpkeras.kernels.conv2d_forward`.
        flush_every: products, or 0 for the proven schedule.
        algorithm: as in `dfpkeras.kernels.conv2d_forward`.

    Raises:
        TypeError, ValueError: as in `dfpkeras.kernels.conv2d_forward`.
    """
    strides, padding, dilation_rate, groups = arguments
    rank = len(shapes[0]) - 2
    arguments = (
        check_sizes("strides", strides, rank),
        check_padding(padding),
        check_sizes("dilation_rate", dilation_rate, rank),
        check_integer("groups", groups),
    )
    classes = ALGORITHMS[check_algorithm(algorithm)]
    return _make_plan(get_isa(), direction, shapes, names, arguments, flush_every, classes)


def check_algorithm(algorithm):
    """Raises a ValueError unless `algorithm` is one of the names in `ALGORITHMS`."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    return algorithm


@functools.lru_cache(_KEPT_PLANS)
def _make_plan(_isa, direction, shapes, names, arguments, flush_every, classes):
    x_shape, w_shape = shapes
    x_name, w_name = names
    strides, padding, dilation_rate, groups = arguments
    _check_channels(x_shape, x_name, w_shape, w_name, groups)
    description = convolution_description(
        x_shape, x_name, w_shape, w_name, w_shape[-1], strides, padding, dilation_rate, groups
    )
    numbers = planes_as_images(description) | {"flush_every": flush_every}
    native = _native.ConvolutionPlan(direction, tuple(numbers.values()), classes)
    return Plan(native, output_shape(description, len(x_shape)))


def _check_channels(x_shape, x_name, w_shape, w_name, groups):
    channels, group_channels, filters = x_shape[-1], w_shape[-2], w_shape[-1]
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(
            f"groups: expected a divisor of the {channels} channels of {x_name} and the {filters} "
            f"filters of {w_name}, got {groups}"
        )
    if group_channels * groups != channels or not group_channels or not filters:
        raise ValueError(
            f"{w_name}: expected {channels // groups} channels (the {channels} of {x_name} / "
            f"{groups} groups) and at least one filter, got shape {w_shape}"
        )

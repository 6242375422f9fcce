"""Bad arguments of the batch norm and element-wise functions: errors that name the value."""

import re

import numpy as np
import pytest

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

SHAPE, CHANNELS = (2, 3, 4), 4


def floats(*shape):
    return np.ones(shape, np.float32)


def ones(*shape):
    return DFPTensor(np.ones(shape, np.int16), 0)


NUMBERS = ("mean", "factor_dz", "factor_x", "constant", "minimum", "maximum", "max_dz")

#: Every function with valid arguments.
FITTING = {
    "batch_norm_statistics": {"x": floats(*SHAPE)},
    "batch_norm_fold": {
        **{name: floats(CHANNELS) for name in ("mean", "gamma", "beta", "variance")},
        "epsilon": 1e-3,
    },
    "batch_norm_forward": {
        "x": floats(*SHAPE),
        **{name: floats(CHANNELS) for name in ("scale", "offset", "minimum", "maximum")},
        "residual": ones(*SHAPE),
        "activation": "relu",
        "bits": 14,
    },
    "batch_norm_backward_reduce": {
        "dy": ones(*SHAPE),
        "x": floats(*SHAPE),
        "mean": floats(CHANNELS),
        "y": ones(*SHAPE),
        "activation": "relu",
    },
    "batch_norm_backward": {
        "dy": ones(*SHAPE),
        "x": ones(*SHAPE),
        **{name: floats(CHANNELS) for name in NUMBERS},
        "y": ones(*SHAPE),
        "activation": "relu6",
        "bits": 14,
    },
    "batch_norm_backward_frozen": {
        "dy": ones(*SHAPE),
        "factor_dz": floats(CHANNELS),
        "max_dz": floats(CHANNELS),
        "y": ones(*SHAPE),
        "activation": "relu",
        "bits": 14,
    },
    "activation_forward": {"x": ones(*SHAPE), "activation": "relu", "bits": 14},
    "activation_backward": {
        "dy": ones(*SHAPE),
        "y": ones(*SHAPE),
        "activation": "relu",
        "bits": 14,
    },
    "add": {"a": ones(*SHAPE), "b": floats(*SHAPE), "activation": "relu", "bits": 14},
}


#: The argument that determines the shapes of all others.
LEADING = {name: next(iter(arguments)) for name, arguments in FITTING.items()}


def arguments_of(*kinds, leading=True):
    """(function, argument) pairs whose valid value is of one of the kinds."""
    return [
        pytest.param(function, name, id=f"{function}-{name}")
        for function, arguments in FITTING.items()
        for name, value in arguments.items()
        if kind_of(name, value) in kinds and (leading or name != LEADING[function])
    ]


def kind_of(name, value):
    if name in ("activation", "bits", "epsilon"):
        return name
    if isinstance(value, np.ndarray) and value.shape == (CHANNELS,):
        return "channel"
    return "tensor" if name == "y" else "operand"


def call(function, **changed):
    return getattr(kernels, function)(**FITTING[function] | changed)


@pytest.mark.parametrize("function", FITTING)
def test_the_arguments_of_these_tests_fit(function):
    call(function)


@pytest.mark.parametrize(("function", "name"), arguments_of("channel", leading=False))
@pytest.mark.parametrize(
    ("value", "received"),
    [
        (floats(5), r"float32 array of shape \(5,\)"),
        (floats(1, 4), r"float32 array of shape \(1, 4\)"),
        (np.ones(4), r"float64 array of shape \(4,\)"),
        ([1.0, 1.0, 1.0, 1.0], "list"),
    ],
)
def test_numbers_of_channels_that_do_not_fit(function, name, value, received):
    with pytest.raises(ValueError, match=rf"{name}: expected .*\(4,\), got {received}"):
        call(function, **{name: value})


@pytest.mark.parametrize(("function", "name"), arguments_of("operand", "tensor"))
@pytest.mark.parametrize(
    ("value", "received"),
    [(np.ones(SHAPE), "float64"), (np.ones(SHAPE, np.int16), "int16"), ([1.0], "list")],
)
def test_operands_of_another_type(function, name, value, received):
    with pytest.raises(TypeError, match=rf"{name}: expected .*, got {received}"):
        call(function, **{name: value})


@pytest.mark.parametrize(("function", "name"), arguments_of("tensor"))
@pytest.mark.parametrize("value", [floats(*SHAPE), None])
def test_y_must_be_a_tensor(function, name, value):
    with pytest.raises(TypeError, match=rf"{name}: expected a DFPTensor .*"):
        call(function, **{name: value})


@pytest.mark.parametrize(("function", "name"), arguments_of("operand", "tensor", leading=False))
@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 2, 4), (6, 4), (4,), ()])
def test_operands_of_another_shape(function, name, shape):
    is_array = isinstance(FITTING[function][name], np.ndarray)
    value = floats(*shape) if is_array else ones(*shape)
    with pytest.raises(ValueError, match=rf"{name}: expected the shape \(2, 3, 4\)") as error:
        call(function, **{name: value})
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3, 0), (0,), ()])
@pytest.mark.parametrize(
    "function", [name for name in FITTING if re.match("batch_norm_(?!fold)", name)]
)
def test_no_channel(function, shape):
    changed = {LEADING[function]: floats(*shape)}
    with pytest.raises(ValueError, match="expected at least one channel") as error:
        call(function, **changed)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("given", ["minimum", "maximum"])
def test_half_of_a_channel_range(given):
    missing = ({"minimum", "maximum"} - {given}).pop()
    with pytest.raises(ValueError, match=rf"{missing}: expected a float32 array"):
        call("batch_norm_forward", **{missing: None})


@pytest.mark.parametrize(("function", "name"), arguments_of("activation"))
@pytest.mark.parametrize("value", ["relu7", "linear", "", 0, max])
def test_an_unknown_activation(function, name, value):
    with pytest.raises(
        ValueError, match="activation: expected one of None, 'relu', 'relu6', 'elu'"
    ) as error:
        call(function, **{name: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(("function", "name"), arguments_of("bits"))
@pytest.mark.parametrize("value", [1, 16, 0, -3])
def test_bits_out_of_range(function, name, value):
    with pytest.raises(ValueError, match=rf"bits: expected 2 to 15 magnitude bits, got {value}"):
        call(function, **{name: value})


@pytest.mark.parametrize(("function", "name"), arguments_of("bits"))
@pytest.mark.parametrize("value", [14.0, "14", None])
def test_bits_not_an_integer(function, name, value):
    with pytest.raises(TypeError, match="bits: expected an integer"):
        call(function, **{name: value})


def test_gradients_of_numbers_that_do_not_fit():
    sums = kernels.batch_norm_backward_reduce(ones(*SHAPE), floats(*SHAPE), floats(CHANNELS))
    with pytest.raises(ValueError, match=r"variance: expected .*\(4,\)"):
        kernels.batch_norm_gradients(floats(4), floats(5), 1e-3, sums, 6)
    with pytest.raises(ValueError, match=r"gamma: expected .*\(4,\)"):
        kernels.batch_norm_gradients(floats(3), floats(4), 1e-3, sums, 6)

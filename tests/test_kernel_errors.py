"""Bad arguments: an error that names the argument and its value, before any work is done."""

import re

import numpy as np
import pytest

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

BAD_ARGUMENT = (TypeError, ValueError)


def zeros(*shape):
    return DFPTensor(np.zeros(shape, np.int16), 0)


def ones(*shape):
    return DFPTensor(np.ones(shape, np.int16), 0)


def assert_message(error, *fragments):
    """Every fragment must occur as a whole word (or number) in the message."""
    message = str(error.value)
    for fragment in fragments:
        assert re.search(rf"(?<!\w){re.escape(str(fragment))}(?!\w)", message), (
            f"{fragment!r} is not in {message!r}"
        )


# --- quantize -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "complex64"])
def test_quantize_needs_float32(dtype):
    with pytest.raises(TypeError) as error:
        dfpkeras.quantize(np.ones(3, dtype))
    assert_message(error, "x", dtype, "float32")


@pytest.mark.parametrize("x, came", [("abc", "str"), (None, "NoneType"), ([1.0], "list")])
def test_quantize_needs_an_array(x, came):
    with pytest.raises(TypeError) as error:
        dfpkeras.quantize(x)
    assert_message(error, "x", came)


@pytest.mark.parametrize("bits", [1, 0, -3, 16, 2**40])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError) as error:
        dfpkeras.quantize(np.ones(3, np.float32), bits=bits)
    assert_message(error, "bits", bits, 2, 15)
    with pytest.raises(ValueError) as error:
        DFPTensor.from_int32(np.ones(3, np.int32), 0, bits=bits)
    assert_message(error, "bits", bits, 2, 15)


@pytest.mark.parametrize("bits", [8.0, 7.5, "8", None])
def test_bits_not_an_integer(bits):
    with pytest.raises(BAD_ARGUMENT) as error:
        dfpkeras.quantize(np.ones(3, np.float32), bits=bits)
    assert_message(error, "bits", bits)


@pytest.mark.parametrize("rounding", ["up", "", "Nearest", None, 1])
def test_unknown_rounding(rounding):
    with pytest.raises(BAD_ARGUMENT) as error:
        dfpkeras.quantize(np.ones(3, np.float32), rounding=rounding)
    assert_message(error, "rounding", repr(rounding), "nearest", "stochastic", "truncate", "biased")
    with pytest.raises(BAD_ARGUMENT) as error:
        DFPTensor.from_int32(np.ones(3, np.int32), 0, rounding=rounding)
    assert_message(error, "rounding", repr(rounding))


@pytest.mark.parametrize("values", [np.ones(3, np.float32), np.zeros(0, np.float32)])
def test_stochastic_needs_a_seed(values):
    with pytest.raises(ValueError) as error:
        dfpkeras.quantize(values, rounding="stochastic")
    assert_message(error, "seed", "stochastic")
    with pytest.raises(ValueError) as error:
        DFPTensor.from_int32(values.astype(np.int32), 0, rounding="stochastic")
    assert_message(error, "seed", "stochastic")


@pytest.mark.parametrize("seed", [1.5, "7"])
def test_seed_not_an_integer(seed):
    with pytest.raises(BAD_ARGUMENT) as error:
        dfpkeras.quantize(np.ones(3, np.float32), rounding="stochastic", seed=seed)
    assert_message(error, "seed", seed)


# --- DFPTensor ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "uint16", "int8", "float32"])
def test_tensor_needs_int16(dtype):
    with pytest.raises(TypeError) as error:
        DFPTensor(np.ones(3, dtype), 0)
    assert_message(error, "data", dtype, "int16")


def test_tensor_needs_an_array():
    with pytest.raises(TypeError) as error:
        DFPTensor([1, 2, 3], 0)
    assert_message(error, "data", "list")


@pytest.mark.parametrize("position", [0, 1, 40, 66])
def test_tensor_must_not_hold_minus_32768(position):
    data = np.full(67, 32767, np.int16)
    data[position] = -32768
    with pytest.raises(ValueError) as error:
        DFPTensor(data, 0)
    assert_message(error, "data", "-32768")


@pytest.mark.parametrize("exponent", [-129, 128, 1000, 2**40])
def test_tensor_exponent_out_of_range(exponent):
    with pytest.raises(ValueError) as error:
        DFPTensor(np.ones(3, np.int16), exponent)
    assert_message(error, "exponent", exponent)


@pytest.mark.parametrize("exponent", [1.5, "1", None])
def test_tensor_exponent_not_an_integer(exponent):
    with pytest.raises(BAD_ARGUMENT) as error:
        DFPTensor(np.ones(3, np.int16), exponent)
    assert_message(error, "exponent", exponent)


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "uint32"])
def test_downconversion_needs_int32(dtype):
    with pytest.raises(TypeError) as error:
        DFPTensor.from_int32(np.ones(3, dtype), 0)
    assert_message(error, "data", dtype, "int32")


@pytest.mark.parametrize("operation", ["__add__", "__mul__"])
def test_arithmetic_needs_equal_shapes(operation):
    with pytest.raises(ValueError) as error:
        getattr(ones(2, 3), operation)(ones(3, 2))
    assert "(2, 3)" in str(error.value)
    assert "(3, 2)" in str(error.value)


@pytest.mark.parametrize("other", [2, 2.0, np.ones(3, np.float32), None])
def test_arithmetic_needs_tensors(other):
    with pytest.raises(TypeError):
        ones(3) + other
    with pytest.raises(TypeError):
        ones(3) * other


def test_reshape_to_another_size():
    with pytest.raises(ValueError, match="shape"):
        ones(3, 4).reshape((5, 2))


# --- convolution: what all three kernels check ----------------------------------------------


def forward(x=None, w=None, **options):
    return kernels.conv2d_forward(
        ones(2, 8, 9, 4) if x is None else x, ones(3, 3, 4, 6) if w is None else w, **options
    )


def backward_data(dy=None, w=None, input_shape=(2, 8, 9, 4), **options):
    return kernels.conv2d_backward_data(
        ones(2, 6, 7, 6) if dy is None else dy,
        ones(3, 3, 4, 6) if w is None else w,
        input_shape,
        **options,
    )


def backward_weights(x=None, dy=None, kernel_shape=(3, 3, 4, 6), **options):
    return kernels.conv2d_backward_weights(
        ones(2, 8, 9, 4) if x is None else x,
        ones(2, 6, 7, 6) if dy is None else dy,
        kernel_shape,
        **options,
    )


EVERY_CONVOLUTION = pytest.mark.parametrize("call", [forward, backward_data, backward_weights])


@EVERY_CONVOLUTION
def test_the_defaults_of_these_tests_are_valid(call):
    assert (call() > 0).any()


@EVERY_CONVOLUTION
@pytest.mark.parametrize("name", ["strides", "dilation_rate"])
@pytest.mark.parametrize("value", [0, -1, (1, 0), (-2, 1), (1, 2, 3), (1,), ()])
def test_strides_and_dilation_out_of_range(call, name, value):
    with pytest.raises(ValueError) as error:
        call(**{name: value})
    assert_message(error, name)
    assert str(value) in str(error.value)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("name", ["strides", "dilation_rate"])
@pytest.mark.parametrize(
    "value, came",
    [(1.5, "1.5"), ("2", "'2'"), (None, "None"), ((1, 2.5), "2.5"), ([None, 1], "None")],
)
def test_strides_and_dilation_not_integers(call, name, value, came):
    with pytest.raises(BAD_ARGUMENT) as error:
        call(**{name: value})
    assert_message(error, name, came)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("padding", ["full", "causal", "", None, 1, ((1, 1), (1, 1))])
def test_unknown_padding(call, padding):
    with pytest.raises(BAD_ARGUMENT) as error:
        call(padding=padding)
    assert_message(error, "padding", "valid", "same")
    assert repr(padding) in str(error.value)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("groups", [0, -2])
def test_groups_out_of_range(call, groups):
    with pytest.raises(ValueError) as error:
        call(groups=groups)
    assert_message(error, "groups", groups)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("groups", [1.0, "1", None])
def test_groups_not_an_integer(call, groups):
    with pytest.raises(BAD_ARGUMENT) as error:
        call(groups=groups)
    assert_message(error, "groups", groups)


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward(w=ones(3, 3, 1, 6), groups=3),
        lambda: backward_data(w=ones(3, 3, 1, 6), groups=3),
        lambda: backward_weights(kernel_shape=(3, 3, 1, 6), groups=3),
    ],
    ids=["forward", "backward_data", "backward_weights"],
)
def test_input_channels_not_divisible_by_groups(call):
    with pytest.raises(ValueError) as error:
        call()
    assert_message(error, "groups", 3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward(w=ones(3, 3, 2, 5), groups=2),
        lambda: backward_data(dy=ones(2, 6, 7, 5), w=ones(3, 3, 2, 5), groups=2),
        lambda: backward_weights(dy=ones(2, 6, 7, 5), kernel_shape=(3, 3, 2, 5), groups=2),
    ],
    ids=["forward", "backward_data", "backward_weights"],
)
def test_output_channels_not_divisible_by_groups(call):
    with pytest.raises(ValueError) as error:
        call()
    assert_message(error, "groups", 2, 5)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("flush_every", [0, -2, 1, 3, 33])
def test_flush_every_must_be_even_and_positive(call, flush_every):
    with pytest.raises(ValueError) as error:
        call(flush_every=flush_every)
    assert_message(error, "flush_every", flush_every)


@EVERY_CONVOLUTION
@pytest.mark.parametrize("flush_every", [2.0, 2.5, "4"])
def test_flush_every_not_an_integer(call, flush_every):
    with pytest.raises(BAD_ARGUMENT) as error:
        call(flush_every=flush_every)
    assert_message(error, "flush_every", flush_every)


OPERANDS = [(forward, "x"), (forward, "w"), (backward_data, "dy"), (backward_data, "w")]
OPERANDS += [(backward_weights, "x"), (backward_weights, "dy")]
EVERY_OPERAND = pytest.mark.parametrize("call, name", OPERANDS)


@EVERY_OPERAND
@pytest.mark.parametrize(
    "value, came",
    [
        (np.ones((2, 8, 9, 4), np.int16), "int16"),
        (np.ones((2, 8, 9, 4), np.float32), "float32"),
        (3, "int"),
        ("x", "str"),
    ],
)
def test_operands_must_be_tensors(call, name, value, came):
    with pytest.raises(TypeError) as error:
        call(**{name: value})
    assert_message(error, name, came, "DFPTensor")


@EVERY_OPERAND
@pytest.mark.parametrize("shape", [(4,), (9, 4), (8, 9, 4), (1, 2, 8, 9, 4)])
def test_operands_must_have_rank_four(call, name, shape):
    with pytest.raises(ValueError) as error:
        call(**{name: ones(*shape)})
    assert_message(error, name)
    assert str(shape) in str(error.value) or str(len(shape)) in str(error.value)


# --- shapes that do not match ---------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward(w=ones(3, 3, 5, 6)),
        lambda: backward_data(w=ones(3, 3, 5, 6)),
        lambda: backward_data(input_shape=(2, 8, 9, 5)),
        lambda: backward_weights(kernel_shape=(3, 3, 5, 6)),
    ],
    ids=["forward", "backward_data_w", "backward_data_input_shape", "backward_weights"],
)
def test_input_channels_differ(call):
    with pytest.raises(ValueError) as error:
        call()
    assert_message(error, 4, 5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward(w=ones(9, 3, 4, 6)),
        lambda: forward(w=ones(3, 10, 4, 6)),
        lambda: forward(dilation_rate=(4, 1)),
        lambda: forward(dilation_rate=(1, 5)),
        lambda: backward_data(w=ones(9, 3, 4, 6)),
        lambda: backward_weights(kernel_shape=(9, 3, 4, 6)),
    ],
)
def test_kernel_larger_than_valid_input(call):
    with pytest.raises(ValueError) as error:
        call()
    assert re.search(r"\b(w|kernel_shape|kernel)\b", str(error.value))
    assert re.search(r"\b(8|9)\b", str(error.value))
    assert_message(error, "valid")


@pytest.mark.parametrize("name", ["x", "w"])
def test_forward_of_empty_dimensions(name):
    shapes = {"x": (2, 0, 9, 4), "w": (0, 3, 4, 6)}
    with pytest.raises(ValueError) as error:
        forward(**{name: zeros(*shapes[name])})
    assert_message(error, name)


@pytest.mark.parametrize("input_shape", [(3, 8, 9, 4), (2, 9, 9, 4), (2, 8, 8, 4), (2, 80, 9, 4)])
def test_input_shape_inconsistent_with_gradient(input_shape):
    with pytest.raises(ValueError) as error:
        backward_data(input_shape=input_shape)
    assert_message(error, "input_shape")
    assert str(input_shape) in str(error.value)


@pytest.mark.parametrize("input_shape", [(8, 9, 4), (2, 8, 9, 4, 1), (2, -8, 9, 4), (), 7])
def test_input_shape_not_four_sizes(input_shape):
    with pytest.raises(BAD_ARGUMENT) as error:
        backward_data(input_shape=input_shape)
    assert_message(error, "input_shape")
    assert str(input_shape) in str(error.value)


@pytest.mark.parametrize("input_shape", [(2, 8.5, 9, 4), (2, None, 9, 4), "abcd", None])
def test_input_shape_not_integers(input_shape):
    with pytest.raises(BAD_ARGUMENT) as error:
        backward_data(input_shape=input_shape)
    assert_message(error, "input_shape")
    assert str(input_shape) in str(error.value)


def test_gradient_channels_differ_from_the_kernel():
    with pytest.raises(ValueError) as error:
        backward_data(dy=ones(2, 6, 7, 8))
    assert_message(error, "dy", 8, 6)
    with pytest.raises(ValueError) as error:
        backward_weights(dy=ones(2, 6, 7, 8))
    assert_message(error, "dy", 8, 6)


@pytest.mark.parametrize("dy_shape", [(3, 6, 7, 6), (2, 5, 7, 6), (2, 6, 9, 6)])
def test_gradient_inconsistent_with_the_input(dy_shape):
    with pytest.raises(ValueError) as error:
        backward_weights(dy=ones(*dy_shape))
    assert_message(error, "dy")
    assert str(dy_shape) in str(error.value)


@pytest.mark.parametrize("kernel_shape", [(4, 3, 4, 6), (3, 2, 4, 6), (1, 1, 4, 6)])
def test_kernel_shape_inconsistent_with_gradient(kernel_shape):
    with pytest.raises(ValueError) as error:
        backward_weights(kernel_shape=kernel_shape)
    assert_message(error, "kernel_shape")
    assert str(kernel_shape) in str(error.value)


@pytest.mark.parametrize(
    "kernel_shape",
    [(3, 3, 4), (3, 3, 4, 6, 1), (0, 3, 4, 6), (3, -3, 4, 6), (3, 3.5, 4, 6), 3, None],
)
def test_kernel_shape_not_four_positive_sizes(kernel_shape):
    with pytest.raises(BAD_ARGUMENT) as error:
        backward_weights(kernel_shape=kernel_shape)
    assert_message(error, "kernel_shape")
    assert str(kernel_shape) in str(error.value)


# --- matmul ---------------------------------------------------------------------------------


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul_inner_sizes_differ(transpose_a, transpose_b):
    with pytest.raises(ValueError) as error:
        kernels.matmul(ones(4, 4), ones(5, 5), transpose_a, transpose_b)
    assert_message(error, "a", "b", 4, 5)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("shape", [(4,), (1, 4, 4), ()])
def test_matmul_needs_matrices(name, shape):
    with pytest.raises(ValueError) as error:
        kernels.matmul(**({"a": ones(4, 4), "b": ones(4, 4)} | {name: ones(*shape)}))
    assert_message(error, name)
    assert str(shape) in str(error.value) or str(len(shape)) in str(error.value)


@pytest.mark.parametrize("name", ["a", "b"])
def test_matmul_needs_tensors(name):
    value = np.ones((4, 4), np.int16)
    with pytest.raises(TypeError) as error:
        kernels.matmul(**({"a": ones(4, 4), "b": ones(4, 4)} | {name: value}))
    assert_message(error, name, "int16", "DFPTensor")


@pytest.mark.parametrize("flush_every", [0, -2, 3, 2.5])
def test_matmul_flush_every(flush_every):
    with pytest.raises(BAD_ARGUMENT) as error:
        kernels.matmul(ones(4, 4), ones(4, 4), flush_every=flush_every)
    assert_message(error, "flush_every", flush_every)


# --- process-wide settings ------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, -(2**40)])
def test_thread_count_out_of_range(count):
    before = dfpkeras.get_num_threads()
    with pytest.raises(ValueError) as error:
        dfpkeras.set_num_threads(count)
    assert_message(error, count)
    assert re.search("thread", str(error.value))
    assert dfpkeras.get_num_threads() == before


@pytest.mark.parametrize("count", [1.5, 2.0, "2", None])
def test_thread_count_not_an_integer(count):
    before = dfpkeras.get_num_threads()
    with pytest.raises(BAD_ARGUMENT) as error:
        dfpkeras.set_num_threads(count)
    assert_message(error, count)
    assert dfpkeras.get_num_threads() == before


@pytest.mark.parametrize("name", ["sse2", "AVX2", "", None, 3])
def test_unknown_isa(name):
    before = kernels.get_isa()
    with pytest.raises(BAD_ARGUMENT) as error:
        kernels.set_isa(name)
    assert repr(name) in str(error.value)
    assert_message(error, "scalar", "avx2")
    assert kernels.get_isa() == before


@pytest.mark.parametrize(
    "variable, value",
    [("DFPKERAS_MAX_ISA", "sse9"), ("DFPKERAS_NUM_THREADS", "0"), ("DFPKERAS_NUM_THREADS", "two")],
)
def test_bad_environment_variable(run_python, variable, value):
    done = run_python(
        "import dfpkeras; dfpkeras.kernels.get_isa(); dfpkeras.get_num_threads()",
        **{variable: value},
    )
    assert done.returncode != 0
    last_line = done.stderr.strip().splitlines()[-1]
    assert variable in last_line
    assert value in last_line

"""Run a kernel on every ISA and compare each result with the oracle."""

import numpy as np
import pytest
import reference
from strategies import safe_interval

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

OPERATIONS = pytest.mark.parametrize("operation", ["forward", "backward_data", "backward_weights"])


def tensor(operand):
    return DFPTensor(operand.data, operand.exponent)


def magnitudes(operand):
    return np.abs(operand.data.astype(np.int64))


def check_forward(case, on_every_isa):
    x, w = case.x, case.w
    options = case.options | {"flush_every": safe_interval(x, w, case.flush)}
    results = on_every_isa(lambda: case.kernel("forward")(tensor(x), tensor(w), **options))
    expected = case.oracle.scheduled_forward(x, w, **options)
    for result in results.values():
        reference.assert_same_bits(result, expected.result)
        reference.assert_within_summation_bound(
            result,
            case.oracle.forward(x.data, w.data, **case.options),
            case.oracle.forward(magnitudes(x), magnitudes(w), **case.options),
            expected.flushes,
            x.exponent + w.exponent,
        )


def check_backward_data(case, on_every_isa):
    dy, w, shape = case.dy, case.w, case.input_shape
    options = case.options | {"flush_every": safe_interval(dy, w, case.flush)}
    results = on_every_isa(
        lambda: case.kernel("backward_data")(tensor(dy), tensor(w), shape, **options)
    )
    expected = case.oracle.scheduled_backward_data(dy, w, shape, **options)
    for result in results.values():
        reference.assert_same_bits(result, expected.result)
        reference.assert_within_summation_bound(
            result,
            case.oracle.backward_data(dy.data, w.data, shape, **case.options),
            case.oracle.backward_data(magnitudes(dy), magnitudes(w), shape, **case.options),
            expected.flushes,
            dy.exponent + w.exponent,
        )


def check_backward_weights(case, on_every_isa):
    x, dy, shape = case.x, case.dy, case.kernel_shape
    options = case.options | {"flush_every": safe_interval(x, dy, case.flush)}
    results = on_every_isa(
        lambda: case.kernel("backward_weights")(tensor(x), tensor(dy), shape, **options)
    )
    expected = case.oracle.scheduled_backward_weights(x, dy, shape, **options)
    for result in results.values():
        reference.assert_same_bits(result, expected.result)
        reference.assert_within_summation_bound(
            result,
            case.oracle.backward_weights(x.data, dy.data, shape, **case.options),
            case.oracle.backward_weights(magnitudes(x), magnitudes(dy), shape, **case.options),
            expected.flushes,
            x.exponent + dy.exponent,
        )


def check_matmul(a, b, on_every_isa, flush_every=None, **transposes):
    expected = reference.scheduled_matmul(a, b, flush_every=flush_every, **transposes)
    results = on_every_isa(
        lambda: kernels.matmul(tensor(a), tensor(b), flush_every=flush_every, **transposes)
    )
    for result in results.values():
        reference.assert_same_bits(result, expected.result)
        reference.assert_within_summation_bound(
            result,
            reference.matmul(a.data, b.data, **transposes),
            reference.matmul(magnitudes(a), magnitudes(b), **transposes),
            expected.flushes,
            a.exponent + b.exponent,
        )


def run(operation, x, w, dy, case):
    """Call one kernel on tensors in the shapes of a case."""
    if operation == "forward":
        return case.kernel("forward")(x, w, **case.options)
    if operation == "backward_data":
        return case.kernel("backward_data")(dy, w, case.input_shape, **case.options)
    return case.kernel("backward_weights")(x, dy, case.kernel_shape, **case.options)


def run_case(operation, case):
    return run(operation, tensor(case.x), tensor(case.w), tensor(case.dy), case)


def result_shape(operation, case):
    return {
        "forward": case.output_shape,
        "backward_data": case.input_shape,
        "backward_weights": case.kernel_shape,
    }[operation]

"""Same bits for every ISA, thread count, batch split and concurrent caller."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from checks import OPERATIONS, run, run_case, tensor
from hypothesis import given, settings
from strategies import ConvolutionCase, convolution_cases, matmul_cases

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

ISA_ORDER = ("scalar", "avx2", "avxvnni", "avx512bw", "avx512vnni")

# Large enough that every kernel has work for three threads.
LARGER_SHAPES = {
    "3x3": ((3, 20, 21, 24), (3, 3, 24, 72), (1, 1), "same", (1, 1), 1),
    "stem": ((2, 45, 47, 3), (7, 7, 3, 20), (2, 2), "same", (1, 1), 1),
    "pointwise": ((5, 13, 14, 70), (1, 1, 70, 130), (1, 1), "valid", (1, 1), 1),
    "strided_dilated": ((3, 30, 31, 10), (3, 3, 10, 30), (3, 2), "same", (2, 3), 1),
    "depthwise": ((2, 33, 35, 40), (3, 3, 1, 40), (1, 2), "same", (1, 1), 40),
    "one_image_deep": ((1, 4, 4, 150), (3, 3, 150, 150), (1, 1), "same", (1, 1), 1),
}


def larger_case(name, kinds=("normal", "heavy_tailed")):
    return ConvolutionCase(*LARGER_SHAPES[name], kinds, (15, 15), 21, None)


def bits(array):
    return array.view(np.int32)


@OPERATIONS
@pytest.mark.parametrize("name", LARGER_SHAPES)
def test_isas_and_thread_counts_agree(on_every_isa, on_every_thread_count, operation, name):
    case = larger_case(name)
    results = on_every_isa(lambda: on_every_thread_count(lambda: run_case(operation, case)))
    expected = results["scalar"][1]
    if operation == "forward":
        scheduled = reference.scheduled_forward(case.x, case.w, **case.options)
        reference.assert_same_bits(expected, scheduled.result)
    for by_threads in results.values():
        for result in by_threads.values():
            reference.assert_same_bits(result, expected)


@OPERATIONS
@settings(max_examples=25)
@given(case=convolution_cases())
def test_small_shapes_agree_over_thread_counts(on_every_thread_count, operation, case):
    results = on_every_thread_count(lambda: run_case(operation, case))
    for result in results.values():
        reference.assert_same_bits(result, results[1])


@settings(max_examples=25)
@given(case=matmul_cases())
def test_matmul_agrees_over_thread_counts(on_every_thread_count, case):
    a, b = (tensor(operand) for operand in case.operands)
    results = on_every_thread_count(lambda: kernels.matmul(a, b, **case.options))
    for result in results.values():
        reference.assert_same_bits(result, results[1])


def test_larger_matmul_agrees_everywhere(on_every_isa, on_every_thread_count):
    rng = np.random.default_rng(2)
    a, b = (
        DFPTensor(rng.integers(-32767, 32768, shape).astype(np.int16), -15)
        for shape in ((150, 700), (700, 200))
    )
    expected = reference.scheduled_matmul(a, b).result
    results = on_every_isa(lambda: on_every_thread_count(lambda: kernels.matmul(a, b)))
    for by_threads in results.values():
        for result in by_threads.values():
            reference.assert_same_bits(result, expected)


@OPERATIONS
@pytest.mark.parametrize("threads", [4, 7, 16])
def test_more_threads_than_cores_agree(operation, threads):
    case = larger_case("strided_dilated")
    before = dfpkeras.get_num_threads()
    expected = run_case(operation, case)
    dfpkeras.set_num_threads(threads)
    try:
        assert dfpkeras.get_num_threads() == threads
        reference.assert_same_bits(run_case(operation, case), expected)
    finally:
        dfpkeras.set_num_threads(before)


@OPERATIONS
def test_concurrent_callers_get_what_a_single_caller_gets(operation):
    """TensorFlow calls from several inter-op threads at once."""
    cases = [larger_case(name) for name in ("3x3", "stem", "depthwise")]
    operands = [(tensor(c.x), tensor(c.w), tensor(c.dy), c) for c in cases]
    expected = [run(operation, *arguments) for arguments in operands]
    with ThreadPoolExecutor(6) as pool:
        futures = [
            (index, pool.submit(run, operation, *operands[index]))
            for _ in range(6)
            for index in range(len(cases))
        ]
        for index, future in futures:
            reference.assert_same_bits(future.result(), expected[index])


@pytest.mark.parametrize("name", ["3x3", "strided_dilated", "depthwise"])
@pytest.mark.parametrize("operation", ["forward", "backward_data"])
def test_an_image_alone_gives_the_bits_it_gives_in_a_batch(operation, name):
    """Tiles cross rows and images, but the schedule does not depend on the batch."""
    case = larger_case(name, ("aligned_max", "normal"))
    whole = run_case(operation, case)
    one_image = ConvolutionCase(
        (1, *case.input_shape[1:]), *LARGER_SHAPES[name][1:], case.kinds, case.bits, 21, None
    )
    for index in range(case.input_shape[0]):
        x, dy = (
            DFPTensor(np.ascontiguousarray(o.data[index : index + 1]), o.exponent)
            for o in (case.x, case.dy)
        )
        reference.assert_same_bits(
            run(operation, x, tensor(case.w), dy, one_image), whole[index : index + 1].copy()
        )


def test_isa_order_and_selection(on_every_isa):
    available = kernels.available_isas()
    assert available[0] == "scalar"
    assert available == [name for name in ISA_ORDER if name in available]
    assert on_every_isa(kernels.get_isa) == {name: name for name in available}
    assert kernels.info()["isa"] == kernels.get_isa()

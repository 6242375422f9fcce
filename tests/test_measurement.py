"""What is measured of a tensor, and how kernels cut their sums into runs, against oracles."""

import contextlib
import math
from unittest import mock

import numpy as np
import pytest
import reference
import reference_depthwise as oracle_of_depthwise
from checks import (
    check_backward_data,
    check_backward_weights,
    check_forward,
    check_matmul,
    tensor,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import (
    DATA_KINDS,
    OPERAND_KINDS,
    as_operand_of_kind,
    convolution_cases,
    float_data,
    matmul_cases,
    random_signs,
    seeds,
)
from test_depthwise_kernels import cases as depthwise_cases
from test_winograd_kernels import EACH_ALGORITHM, NAMED_CASES
from test_winograd_kernels import make_case as winograd_case

import dfpkeras
from dfpkeras import _native, kernels
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.kernels.measurement import measure
from dfpkeras.kernels.quantized_tensor import DFPTensor

# Measurements


def definitions(made, bits, source):
    """By the definitions of docs/monitor.md, in float64 and Python's integers."""
    q = [int(number) for number in made.data.reshape(-1)]
    magnitudes = [abs(number) for number in q if number]
    unit = 2.0**made.exponent
    if source is None:
        count = len(magnitudes) + min(len(q) - len(magnitudes), magnitudes.count(1) / 2)
        signal, noise = sum(number**2 for number in q), count / 12
    else:
        x = source.reshape(-1)
        count = np.count_nonzero(x)
        signal, noise = math.fsum(x**2), math.fsum((x - np.array(q) * unit) ** 2)
    return {
        "exponent": made.exponent,
        "largest": max(magnitudes, default=0) * unit,
        "zeros": (len(q) - len(magnitudes)) / len(q),
        "saturated": magnitudes.count(2**bits - 1) / len(q),
        "sqnr_db": decibels(signal, noise),
        "is_measured": source is not None,
        "useful_bits": useful_bits(magnitudes, count),
    }


def useful_bits(magnitudes, count):
    """One magnitude after the other is taken from the top until a hundredth is left out; within an
    octave, all are equally far apart in log2."""
    if not count:
        return math.nan
    left_out = count / 100
    for octave in range(14, -1, -1):
        inside = sum(2**octave <= magnitude < 2 ** (octave + 1) for magnitude in magnitudes)
        if inside > left_out:
            return octave + 1 - left_out / inside
        left_out -= inside
    return 0.0


def decibels(signal, noise):
    if not signal:
        return -math.inf if noise else math.nan
    return 10 * math.log10(signal / noise) if noise else math.inf


@given(
    seed=seeds,
    rows=st.sampled_from([1, 3, 7, 70, 1100]),
    channels=st.sampled_from([1, 5, 16, 64, 96]),
    kind=st.sampled_from(DATA_KINDS),
    bits=st.integers(2, 15),
    source=st.sampled_from([None, *OPERAND_KINDS]),
)
@settings(max_examples=60)
def test_matches_the_definitions(on_every_isa, seed, rows, channels, kind, bits, source):
    rng = np.random.default_rng(seed)
    numbers = float_data(rng, (rows, channels), kind, random_signs(rng, channels))
    if source in (None, "integers"):
        given_numbers, values = None, None
        made = dfpkeras.quantize(numbers, bits)
    else:
        given_numbers, values = as_operand_of_kind(numbers, source)
        assume(not isinstance(given_numbers, DFPTensor))
        made = dfpkeras.quantize(given_numbers, bits)
    wanted = definitions(made, bits, values)
    results = on_every_isa(lambda: measure(made, bits, source=given_numbers))
    assert len(set(map(repr, results.values()))) == 1
    for found in results.values():
        found = found._asdict()
        assert found == pytest.approx(wanted, rel=1e-9, nan_ok=True)
        for name in ("exponent", "largest", "zeros", "saturated", "is_measured"):
            assert found[name] == wanted[name]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("bits", [6, 9, 12, 15])
def test_the_model_of_rounding_errors_agrees_with_the_errors(bits, rounding):
    x = np.random.default_rng(bits).standard_normal((64, 1024)).astype(np.float32)
    for numbers in (x, np.maximum(x, 0)):
        made = dfpkeras.quantize(numbers, bits, rounding, seed=1)
        measured = measure(made, bits, rounding, numbers)
        modelled = measure(made, bits, rounding)
        assert abs(measured.sqnr_db - modelled.sqnr_db) < 0.5
        assert measured.is_measured and not modelled.is_measured


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_has_no_numbers_has_no_measurement(value):
    of_nan = measure(dfpkeras.quantize(np.array([1, value], np.float32), 15), 15)
    of_nothing = measure(dfpkeras.quantize(np.zeros((0, 3), np.float32), 15), 15)
    for found in (of_nan, of_nothing):
        assert all(map(math.isnan, (found.largest, found.zeros, found.sqnr_db)))
        assert math.isnan(found.useful_bits)
    zeros = measure(dfpkeras.quantize(np.zeros(9, np.float32), 15), 15)
    assert (zeros.largest, zeros.zeros, zeros.saturated) == (0, 1, 0)
    assert math.isnan(zeros.sqnr_db) and math.isnan(zeros.useful_bits)


def test_more_elements_than_a_task_has():
    """Every sum is exact, whatever the number of threads."""
    rng = np.random.default_rng(0)
    data = rng.integers(-32767, 32768, 200_003).astype(np.int16)
    data[::3], data[1::7], data[-1] = 0, -1, 32767
    found = _native.measure(data, -3, 32767, 15, None)
    wide = np.abs(data.astype(np.int64))
    at_least = [np.sum(wide >= 2**k) for k in range(15)]
    assert found == (at_least, np.sum(wide == 32767), np.sum(wide**2), 0, 0, 0)


# Runs


class Counted:
    """How kernels cut sums, as they count it themselves and as the oracles say."""

    def __init__(self, everywhere):
        self._everywhere = everywhere
        self.found = []
        self.blocks = []

    def everywhere(self, call):
        """Runs a kernel on every ISA, and keeps its counts."""

        def count():
            result = call()
            self.found.append(_native.last_run_counts())
            return result

        return self._everywhere(count)

    def recorded(self, schedule):
        """An oracle's function that cuts one block of columns, as one that keeps what it cut."""

        def record(packed, *args):
            ends = schedule(packed, *args)
            if ends:
                self.blocks.append((ends[-1], len(ends)))
            return ends

        return record

    def check(self, results):
        """`results`: how many blocks of columns the result has. A kernel may cut each of them
        several times, once for each of several tasks."""
        assert self.found and self.blocks
        pairs, runs = (sum(numbers) for numbers in zip(*self.blocks, strict=True))
        for found in self.found:
            times = found[0] // results
            assert times and found == (times * results, times * runs, times * pairs)


@contextlib.contextmanager
def counted(everywhere):
    counts = Counted(everywhere)
    with mock.patch.object(reference, "schedule", counts.recorded(reference.schedule)):
        yield counts


@contextlib.contextmanager
def use_threads(count):
    before = dfpkeras.get_num_threads()
    dfpkeras.set_num_threads(count)
    try:
        yield
    finally:
        dfpkeras.set_num_threads(before)


def column_blocks(columns):
    return -(-columns // 64)


@pytest.mark.parametrize("direction", DIRECTIONS)
@given(case=convolution_cases(), threads=st.sampled_from([1, 2]))
@settings(max_examples=25)
def test_runs_of_convolutions(direction, on_every_isa, case, threads):
    checks = check_forward, check_backward_data, check_backward_weights
    with counted(on_every_isa) as counts, use_threads(threads):
        checks[DIRECTIONS.index(direction)](case, counts.everywhere)
    assume(counts.blocks)  # otherwise an operand was not finite
    filters = case.kernel_shape[3] // case.groups
    of_weights = case.groups * column_blocks(filters)
    counts.check(of_weights if direction == "backward_weights" else len(counts.blocks))


@given(case=matmul_cases())
@settings(max_examples=25)
def test_runs_of_matrix_products(on_every_isa, case):
    with counted(on_every_isa) as counts:
        check_matmul(*case.operands, counts.everywhere, **case.options)
    assume(counts.blocks)
    counts.check(column_blocks(case.columns))


@given(case=depthwise_cases())
@settings(max_examples=25)
def test_runs_of_depthwise_convolutions(on_every_isa, case):
    assume(case.strides[0] <= case.input_shape[1] and case.strides[1] <= case.input_shape[2])
    x, w, dy = (tensor(operand) for operand in (case.x, case.w, case.dy))
    assume(x.is_finite and w.is_finite and dy.is_finite)
    options, blocks = case.options, column_blocks(dy.shape[3])
    with counted(on_every_isa) as counts:
        counts.everywhere(lambda: kernels.depthwise_conv2d_forward(x, w, **options))
        oracle_of_depthwise.scheduled_forward(case.x, case.w, **options)
    counts.check(blocks)
    shape = case.input_shape
    with counted(on_every_isa) as counts:
        counts.everywhere(lambda: kernels.depthwise_conv2d_backward_data(dy, w, shape, **options))
        oracle_of_depthwise.scheduled_backward_data(case.dy, case.w, shape, **options)
    counts.check(len(counts.blocks))
    with counted(on_every_isa) as counts:
        shape = case.kernel_shape
        counts.everywhere(
            lambda: kernels.depthwise_conv2d_backward_weights(x, dy, shape, **options)
        )
    largest, gradient = reference.largest_magnitude(x.data), dy.data.reshape(-1, *dy.shape[2:])
    counts.blocks += [
        (run.stop - run.start, 1) for row in gradient for run in runs_of_row(row, largest)
    ]
    counts.check(blocks)


def runs_of_row(row, largest):
    pairs = oracle_of_depthwise.even_rows(row).reshape(-1, 2, row.shape[1])
    most = oracle_of_depthwise.RUN_PAIRS
    for block in reference.column_blocks(row.shape[1]):
        for first in range(0, len(pairs), most):
            count = min(most, len(pairs) - first)
            yield from oracle_of_depthwise.runs_of(pairs[:, :, block], largest, first, count)


@EACH_ALGORITHM
@pytest.mark.parametrize("kind", ["normal", "aligned_max"])
@pytest.mark.parametrize("name", ["odd everything", "several chunks and parts"])
def test_runs_of_winograd(algorithm, kind, name, on_every_isa):
    case = winograd_case(7, *NAMED_CASES[name], (kind, kind), (15, 15, 15), True)
    points = {"winograd_2x2": 16, "winograd_4x4": 36}[algorithm]
    for i, columns in enumerate((case.w.data.shape[3], *case.w.data.shape[2:])):
        with counted(on_every_isa) as counts:
            counts.everywhere(lambda i=i: case.kernels(algorithm)[i]())
            case.oracles(algorithm)[i]()
        counts.check(points * column_blocks(columns))

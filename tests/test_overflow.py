"""No INT32 sum may ever overflow: adversarial data at every bit width, and the exact edges."""

import numpy as np
import pytest
import reference
from checks import check_backward_data, check_backward_weights, check_forward, check_matmul
from strategies import ConvolutionCase

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor

BIT_WIDTHS = range(2, 16)
EVERY_BIT_WIDTH = pytest.mark.parametrize("bits", BIT_WIDTHS)


def adversarial(input_shape, kernel_shape, bits, padding="valid", strides=(1, 1)):
    """All data at plus or minus the maximum of ``bits``, signs aligned in every sum."""
    case = ConvolutionCase(
        input_shape,
        kernel_shape,
        strides,
        padding,
        (1, 1),
        1,
        ("aligned_max", "aligned_max"),
        (bits, bits),
        3,
        None,
    )
    for operand in (case.x, case.w, case.dy):
        assert (np.abs(operand.data) == 2**bits - 1).all()
    return case


@EVERY_BIT_WIDTH
def test_forward_of_many_input_channels(on_every_isa, bits):
    case = adversarial((1, 3, 3, 1900), (2, 2, 1900, 3), bits)
    check_forward(case, on_every_isa)
    sums = np.abs(reference.forward(case.x.data, case.w.data))
    assert (sums == 4 * 1900 * (2**bits - 1) ** 2).all()


@pytest.mark.slow
@EVERY_BIT_WIDTH
def test_backward_data_of_many_output_channels(on_every_isa, bits):
    check_backward_data(adversarial((1, 3, 3, 3), (2, 2, 3, 1900), bits), on_every_isa)


@EVERY_BIT_WIDTH
def test_backward_weights_of_many_pixels(on_every_isa, bits):
    check_backward_weights(adversarial((2, 61, 43, 3), (3, 3, 3, 5), bits, "same"), on_every_isa)


@EVERY_BIT_WIDTH
def test_backward_weights_of_one_long_row(on_every_isa, bits):
    check_backward_weights(adversarial((1, 1, 5003, 2), (1, 3, 2, 3), bits), on_every_isa)


@pytest.mark.slow
@pytest.mark.parametrize("bits_b", BIT_WIDTHS)
@pytest.mark.parametrize("bits_a", [2, 8, 13, 14, 15])
def test_matmul_of_every_pair_of_widths(on_every_isa, bits_a, bits_b):
    signs = np.where(np.arange(4099) % 3, 1, -1).astype(np.int16)
    a = np.int16(2**bits_a - 1) * signs * np.array([[1], [-1]], np.int16)
    b = np.int16(2**bits_b - 1) * signs[:, None] * np.array([[1, -1, 1]], np.int16)
    check_matmul(reference.Operand(a, 0), reference.Operand(b, 0), on_every_isa)


def test_user_made_tensors_at_the_int16_limit(on_every_isa):
    case = adversarial((2, 9, 8, 70), (3, 3, 70, 70), 15, "same", (2, 1))
    assert reference.largest_magnitude(case.x.data) == 32767
    check_forward(case, on_every_isa)
    check_backward_data(case, on_every_isa)
    check_backward_weights(case, on_every_isa)


def row_and_column_at_the_limit(max_a, excess):
    """Make A [1, K] and B [K, 1] whose column sum differs from the proven limit by ``excess``.

    The last product is alone in the last step. Those before it add up to 2**24 + 1 and it is 1: one
    run gives 2**24 + 2 exactly, while two runs are each rounded and give 2**24.
    """
    pairs = [(1, 32767)] * 512 + [(1, 513)] if max_a <= 100 else [(673, 24929)]
    pairs.append((max_a, 0))
    missing = reference.INT32_MAX // max_a + excess - 1 - sum(b for _, b in pairs)
    pairs += [(0, 32767)] * (missing // 32767) + [(0, missing % 32767)]
    pairs += [(0, 0)] * (-len(pairs) % (2 * reference.PAIRS_PER_STEP)) + [(1, 1)]
    a, b = np.array(pairs, np.int16).T
    return reference.Operand(a[None].copy(), 0), reference.Operand(b[:, None].copy(), 0)


@pytest.mark.slow
@pytest.mark.parametrize("excess, expected", [(-1, 2**24 + 2), (0, 2**24 + 2), (1, 2**24)])
@pytest.mark.parametrize("max_a", [1, 2, 3, 100, 1000, 32766, 32767])
def test_a_run_ends_exactly_at_the_proven_limit(on_every_isa, max_a, excess, expected):
    a, b = row_and_column_at_the_limit(max_a, excess)
    sums = np.abs(b.data.astype(np.int64)).sum()
    assert sums == reference.INT32_MAX // max_a + excess
    for sign in (1, -1):
        signed = reference.Operand(sign * b.data, 0)
        assert reference.scheduled_matmul(a, signed).result == sign * expected
        check_matmul(a, signed, on_every_isa)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_run_may_reach_int32_max(on_every_isa, sign):
    """65538 products of 32767 and one of 1 are exactly 2**31 - 1."""
    b = np.full((65539, 1), sign * 32767, np.int16)
    b[-1] = sign
    a = np.ones((1, 65539), np.int16)
    assert reference.matmul(a, b) == sign * reference.INT32_MAX
    check_matmul(reference.Operand(a, 0), reference.Operand(b, 0), on_every_isa)


def test_the_heaviest_column_of_a_block_determines_the_schedule(on_every_isa):
    b = np.ones((500, 64), np.int16)
    b[:, 63] = -32767
    a = np.full((7, 500), 32767, np.int16)
    check_matmul(reference.Operand(a, 0), reference.Operand(b, 0), on_every_isa)


# --- flush_every ----------------------------------------------------------------------------

# 6 * 25487 * 14043 = 2**31 - 2: the largest sum that a fixed, even interval can reach.
EDGE_INTERVAL, EDGE_A, EDGE_B = 6, 25487, 14043


def filled(shape, value):
    return DFPTensor(np.full(shape, value, np.int16), 0)


def edge_calls(interval, value_a, value_b):
    """Each kernel on operands full of two values, with its reference result."""
    a, b = filled((2, 12), value_a), filled((12, 3), value_b)
    x, w = filled((1, 4, 5, 3), value_a), filled((2, 2, 3, 4), value_b)
    dy_a, dy_b = filled((1, 3, 4, 4), value_a), filled((1, 3, 4, 4), value_b)
    every = {"flush_every": interval}
    return {
        "matmul": (
            lambda: kernels.matmul(a, b, **every),
            lambda: reference.scheduled_matmul(a, b, **every),
        ),
        "forward": (
            lambda: kernels.conv2d_forward(x, w, **every),
            lambda: reference.scheduled_forward(x, w, **every),
        ),
        "backward_data": (
            lambda: kernels.conv2d_backward_data(dy_a, w, x.shape, **every),
            lambda: reference.scheduled_backward_data(dy_a, w, x.shape, **every),
        ),
        "backward_weights": (
            lambda: kernels.conv2d_backward_weights(x, dy_b, w.shape, **every),
            None,
        ),
    }


KERNELS = pytest.mark.parametrize(
    "kernel", ["matmul", "forward", "backward_data", "backward_weights"]
)


@KERNELS
@pytest.mark.parametrize("sign", [1, -1])
def test_flush_every_at_the_edge(on_every_isa, kernel, sign):
    assert EDGE_INTERVAL * EDGE_A * EDGE_B == reference.INT32_MAX - 1
    call, expect = edge_calls(EDGE_INTERVAL, sign * EDGE_A, EDGE_B)[kernel]
    for result in on_every_isa(call).values():
        if kernel == "backward_weights":
            # 12 equal products for each weight, in runs of six.
            exact = np.full(result.shape, sign * 12.0 * EDGE_A * EDGE_B)
            bound = 12 * 12 * EDGE_A * EDGE_B * reference.UNIT_ROUNDOFF
            np.testing.assert_allclose(result.astype(np.float64), exact, rtol=0, atol=bound)
        else:
            reference.assert_same_bits(result, expect().result)


@KERNELS
@pytest.mark.parametrize(
    "interval, value_a, value_b",
    [
        (EDGE_INTERVAL, EDGE_A + 1, EDGE_B),
        (EDGE_INTERVAL, EDGE_A, -EDGE_B - 1),
        (EDGE_INTERVAL + 2, -EDGE_A, EDGE_B),
        (2**16 + 4, 1, 32767),
        (4, 32767, 32767),
        (2**40, 1, 1),
        (2**64, 1, 1),
    ],
)
def test_flush_every_beyond_the_edge_is_an_error(kernel, interval, value_a, value_b):
    call, _ = edge_calls(interval, value_a, value_b)[kernel]
    with pytest.raises(ValueError, match=rf"flush_every\b.*\b{interval}\b"):
        call()


@KERNELS
def test_flush_every_two_is_always_safe(on_every_isa, kernel):
    call, expect = edge_calls(2, -32767, 32767)[kernel]
    for result in on_every_isa(call).values():
        assert (result < 0).all()
        if expect is not None:
            reference.assert_same_bits(result, expect().result)


@KERNELS
def test_flush_every_beyond_the_reduction_changes_nothing(on_every_isa, kernel):
    """One flush at the end, as without the option."""
    long_call, _ = edge_calls(2000, 300, -200)[kernel]
    default_call, _ = edge_calls(None, 300, -200)[kernel]
    for result in on_every_isa(long_call).values():
        reference.assert_same_bits(result, default_call())


def test_flush_every_is_judged_by_the_data_not_by_its_type(on_every_isa):
    """Small values allow a long interval; the same shape at the INT16 limit does not."""
    small = edge_calls(2**20, 31, -66)["matmul"]
    for result in on_every_isa(small[0]).values():
        reference.assert_same_bits(result, small[1]().result)
    with pytest.raises(ValueError, match="flush_every"):
        edge_calls(2**20, 31, -67)["matmul"][0]()


def test_flush_every_moves_the_roundings(on_every_isa):
    """Different intervals must give different FP32 roundings, or the option does nothing."""
    rng = np.random.default_rng(11)
    a = DFPTensor(rng.integers(-8000, 8000, (8, 400)).astype(np.int16), 0)
    b = DFPTensor(rng.integers(-8000, 8000, (400, 9)).astype(np.int16), 0)
    results = [kernels.matmul(a, b, flush_every=every) for every in (2, 8, 32)]
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])

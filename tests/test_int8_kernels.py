"""The INT8 matrix product: exact, on every instruction set and number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpkeras.kernels import matmul_int8
from dfpkeras.kernels.int8_matrix_product import MOST_PRODUCTS

CONTENTS = {
    "random": lambda rng, shape: rng.integers(-128, 128, shape, np.int8),
    "smallest": lambda rng, shape: np.full(shape, -128, np.int8),
    "largest": lambda rng, shape: np.full(shape, 127, np.int8),
    "zero": lambda rng, shape: np.zeros(shape, np.int8),
    "extremes": lambda rng, shape: rng.choice(np.array([-128, 127], np.int8), shape),
}


def exact(a, b):
    product = a.astype(np.int64) @ b.astype(np.int64)
    assert np.all(np.abs(product) <= 2**31 - 1)
    return product


def operand(rng, content, rows, columns, transposed):
    matrix = CONTENTS[content](rng, (rows, columns))
    return matrix, np.ascontiguousarray(matrix.T) if transposed else matrix


sizes = st.one_of(st.integers(0, 20), st.integers(20, 200))
contents = st.sampled_from(sorted(CONTENTS))


@settings(max_examples=200)
@given(
    m=sizes,
    k=sizes,
    n=sizes,
    of_a=contents,
    of_b=contents,
    transposed=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_exact(m, k, n, of_a, of_b, transposed, seed, on_every_isa, on_every_thread_count):
    rng = np.random.default_rng(seed)
    a, given_a = operand(rng, of_a, m, k, transposed[0])
    b, given_b = operand(rng, of_b, k, n, transposed[1])

    def call():
        return matmul_int8(given_a, given_b, *transposed)

    for result in (*on_every_isa(call).values(), *on_every_thread_count(call).values()):
        assert result.dtype == np.int32 and result.shape == (m, n)
        np.testing.assert_array_equal(result, exact(a, b))


@pytest.mark.parametrize("extreme", [-128, 127])
def test_the_longest_reduction_fits(extreme, on_every_isa):
    a = np.full((1, MOST_PRODUCTS), -128, np.int8)
    b = np.full((MOST_PRODUCTS, 2), extreme, np.int8)
    for result in on_every_isa(lambda: matmul_int8(a, b)).values():
        np.testing.assert_array_equal(result, exact(a, b))


INT8 = np.zeros((3, 4), np.int8)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (INT8.astype(np.int16), INT8, TypeError, "a: expected an int8 NumPy array, got int16"),
        (INT8, [[1]], TypeError, "b: expected an int8 NumPy array, got list"),
        (INT8, INT8[0], ValueError, r"b: expected 2 dimensions, got shape \(4,\)"),
        (INT8, INT8, ValueError, r"b: expected 4 rows to multiply a of shape \(3, 4\)"),
        (
            np.zeros((1, MOST_PRODUCTS + 1), np.int8),
            np.zeros((MOST_PRODUCTS + 1, 1), np.int8),
            ValueError,
            "a, b: at most 131071 products fit an INT32 sum, got k = 131072",
        ),
    ],
)
def test_wrong_operands(a, b, error, message):
    with pytest.raises(error, match=message):
        matmul_int8(a, b)

"""Products of many matrices at once, against the oracle of one matrix product, on every ISA."""

import numpy as np
import pytest
import reference
from checks import tensor
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import data_profile, flush_choices, operand, safe_interval, seeds

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.einsum import parse
from dfpkeras.kernels.quantized_tensor import DFPTensor

#: Those of attention and their gradients, in Keras' two spellings, and others.
EQUATIONS = (
    "btnh,bsnh->bnts",
    "bnts,bsnh->btnh",
    "bnts,btnh->bsnh",
    "aecd,abcd->acbe",
    "acbe,aecd->abcd",
    "acbe,abcd->aecd",
    "mk,kn->mn",
    "kma,nka->amn",  # neither operand has rows or columns that are contiguous
    "xk,yk->yx",
    "cbkm,nbck->bcmn",
)


def expected_result(equation, a, b, flush_every):
    """Index by index, from products of two matrices whose A has the largest number of all."""
    labels = parse(equation)
    if labels.c[-1] in labels.a:
        labels, a, b = labels._replace(a=labels.b, b=labels.a), b, a
    (row,), column = set(labels.a) - set(labels.b), labels.c[-1]
    (inner,) = set(labels.a) & set(labels.b) - set(labels.c)
    shared = "".join(label for label in labels.c if label not in (row, column))
    rows = _arranged(a.data, labels.a, shared + row + inner)
    columns = _arranged(b.data, labels.b, shared + inner + column)
    largest = reference.largest_magnitude(a.data)
    result = np.empty((*rows.shape[:-1], columns.shape[-1]), np.float32)
    for index in np.ndindex(rows.shape[:-2]):
        # A row more, whose sum is not looked at, has the largest number.
        padded = np.vstack([rows[index], np.full_like(rows[index][:1], largest)])
        product = reference.scheduled_matmul(
            reference.Operand(padded, a.exponent),
            reference.Operand(columns[index], b.exponent),
            flush_every=flush_every,
        )
        result[index] = product.result[:-1]
    return _arranged(result, shared + row + column, labels.c)


def _arranged(data, labels, order):
    return np.ascontiguousarray(data.transpose([labels.index(label) for label in order]))


@st.composite
def cases(draw):
    equation = draw(st.sampled_from(EQUATIONS))
    labels = parse(equation)
    in_matrices = {*labels.a} ^ {*labels.b} | {*labels.a} & {*labels.b} - {*labels.c}
    large = st.one_of(st.integers(1, 40), st.sampled_from([64, 65, 97, 130, 197]))
    sizes = {
        label: draw(large if label in in_matrices else st.integers(1, 3))
        for label in sorted({*labels.a, *labels.b})
    }
    return equation, sizes, draw(seeds), draw(flush_choices)


@pytest.mark.slow
@given(cases())
@example(("btnh,bsnh->bnts", {"b": 1, "n": 1, "t": 400, "s": 3, "h": 2}, 1, None))  # rows are cut
@example(("bnts,btnh->bsnh", {"b": 2, "n": 2, "t": 7, "s": 300, "h": 5}, 2, None))
def test_matches_oracle(on_every_isa, on_every_thread_count, case):
    equation, sizes, seed, flush = case
    rng, (kinds, bits) = np.random.default_rng(seed), data_profile(seed)
    labels = parse(equation)
    a, b = (
        operand(rng, [sizes[label] for label in names], kind, width)
        for names, kind, width in zip(labels[:2], kinds, bits, strict=True)
    )
    flush_every = safe_interval(a, b, flush)

    def run():
        return kernels.einsum(equation, tensor(a), tensor(b), flush_every)

    expected = expected_result(equation, a, b, flush_every)
    for result in on_every_isa(run).values():
        reference.assert_same_bits(result, expected)
    for result in on_every_thread_count(run).values():
        reference.assert_same_bits(result, expected)


def test_products_of_extremes_are_cut_into_runs(on_every_isa):
    a, b = (reference.Operand(np.full((2, 3, 70), 32767, np.int16), 0) for _ in range(2))
    b.data[1] = 1
    expected = np.einsum("bmk,bnk->bmn", a.data.astype(np.int64), b.data)
    for result in on_every_isa(
        lambda: kernels.einsum("bmk,bnk->bmn", tensor(a), tensor(b))
    ).values():
        assert np.abs(result / expected - 1).max() < 2.0**-20


@pytest.mark.parametrize("equation", EQUATIONS[:3])
def test_empty_operands_and_nonfinite_ones(on_every_isa, equation):
    labels = parse(equation)
    for empty in {*labels.a, *labels.b}:
        shapes = [[0 if label == empty else 3 for label in names] for names in labels]
        a, b = (DFPTensor(np.ones(shape, np.int16), 0) for shape in shapes[:2])
        for result in on_every_isa(lambda a=a, b=b: kernels.einsum(equation, a, b)).values():
            reference.assert_same_bits(result, np.zeros(shapes[2], np.float32))
    ones = np.ones((3,) * 4, np.float32)
    bad = dfpkeras.quantize(np.where(np.arange(3) == 1, np.inf, ones).astype(np.float32))
    for a, b in ((bad, dfpkeras.quantize(ones)), (dfpkeras.quantize(ones), bad)):
        assert np.isnan(kernels.einsum(equation, a, b)).all()


@pytest.mark.parametrize(
    "equation",
    [
        "ab,bc",  # no result
        "ab->a",
        "ab,bc,cd->ad",
        "aab,bc->ac",
        "ab,bc->aa",
        "ab,bc->abc",  # nothing is summed over
        "abc,bcd->ad",  # two labels are
        "abm,akc->bmc",  # a sum over one operand alone
        "mka,kna->mna",  # the last label is shared
        "mk,kn->mnx",
        "m...,n...->mn",
        "mk,k->m",
        "",
    ],
)
def test_other_equations_are_errors(equation):
    a = DFPTensor(np.ones((2, 2), np.int16), 0)
    with pytest.raises(ValueError, match="equation: expected matrix products such as"):
        kernels.einsum(equation, a, a)


def test_operands_that_do_not_fit_are_errors():
    a, b = DFPTensor(np.ones((2, 3), np.int16), 0), DFPTensor(np.ones((4, 5), np.int16), 0)
    with pytest.raises(ValueError, match=r"b: expected 3 for 'k' to fit a of shape \(2, 3\), got"):
        kernels.einsum("mk,kn->mn", a, b)
    with pytest.raises(ValueError, match=r"b: expected 3 dimensions, got shape \(4, 5\)"):
        kernels.einsum("amk,akn->amn", a.reshape(1, 2, 3), b)
    with pytest.raises(TypeError, match="a: expected a DFPTensor"):
        kernels.einsum("mk,kn->mn", a.data, b)
    with pytest.raises(ValueError, match="flush_every: expected an even number of products"):
        kernels.einsum("mk,kn->mn", a, a.reshape(3, 2), flush_every=3)

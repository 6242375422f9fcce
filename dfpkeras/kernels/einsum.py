"""Products of many matrices at once, written as Einstein sums."""

import functools
import typing

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.product_operands import check_flush_every, is_trivial, tensor_parts
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import check_rank
from dfpkeras.runtime import kernel_observers
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty

# A network has some shapes; sequences of changing length keep adding new ones.
_KEPT_PLANS = 1024


class Labels(typing.NamedTuple):
    """The labels of the two operands and the result of an equation, one for each dimension."""

    a: str
    b: str
    c: str


class _Plan(typing.NamedTuple):
    """The products of an equation, for operands of some shapes.

    Attributes:
        swapped: whether the second operand is the one that is broadcast.
        shape: of the result.
        sizes: rows, columns and products of each sum.
        first: int64 array (3, products), where the matrices of the three tensors begin.
        strides: of rows and columns of the two operands, and of rows of the result.
    """

    swapped: bool
    shape: tuple
    sizes: tuple
    first: np.ndarray
    strides: tuple


def parse(equation):
    """Returns the `Labels` of an equation such as "btnh,bsnh->bnts" if `einsum` takes it, else
    None."""
    operands, arrow, c = equation.replace(" ", "").partition("->")
    labels = Labels(*operands.split(","), c) if operands.count(",") == 1 and arrow else None
    if labels is None or not all(_are_distinct(names) for names in labels):
        return None
    a, b, c = map(set, labels)
    has_matrices = len(a - b) == len(b - a) == len(a & b - c) == 1
    is_product = has_matrices and a ^ b <= c <= a | b and labels.c[-1] not in a & b
    return labels if is_product else None


def _are_distinct(names):
    return names.isalpha() and len(set(names)) == len(names)


@default_float_environment
def einsum(equation: str, a: DFPTensor, b: DFPTensor, flush_every: int | None = None) -> np.ndarray:
    """Matrix products, one for each index that both operands and the result share.

    Args:
        equation: as in `numpy.einsum`, such as "btnh,bsnh->bnts", with one label for the rows of a
            matrix, one for its columns, and one that is summed over; any others are shared by all
            three tensors. The last dimension of the result is not shared.
        a, b: `DFPTensor` of as many dimensions as they have labels.
        flush_every: None, or a fixed flush interval in products (see `matmul`).

    Returns:
        ``float32`` array: each product is that of `matmul`, of which the operand that has the last
        label of the result is the second one.

    Raises:
        TypeError: if an operand is not a `DFPTensor`.
        ValueError: if the equation is another one, shapes do not fit, or ``flush_every`` is not
            safe.
    """
    labels = parse(equation)
    if labels is None:
        raise ValueError(
            "equation: expected matrix products such as 'btnh,bsnh->bnts', with one label each for "
            f"rows, columns and what is summed over, got {equation!r}"
        )
    a, b = check_rank("a", a, len(labels.a)), check_rank("b", b, len(labels.b))
    plan = _plan(labels, a.shape, b.shape)
    flush_every = check_flush_every(flush_every, a, "a", b, "b")
    if plan.swapped:
        a, b = b, a
    c = aligned_empty(plan.shape, np.float32)
    if not is_trivial(c, a, b):
        operands = (*tensor_parts(a), *tensor_parts(b), c.reshape(-1))
        _native.batched_matmul(*plan.sizes, plan.first, plan.strides, flush_every, *operands)
        kernel_observers.multiplied("direct")
    return c


@functools.lru_cache(_KEPT_PLANS)
def _plan(labels, a_shape, b_shape):
    sizes = dict(zip(labels.a, a_shape, strict=True))
    for label, size in zip(labels.b, b_shape, strict=True):
        if sizes.setdefault(label, size) != size:
            raise ValueError(
                f"b: expected {sizes[label]} for {label!r} to fit a of shape {a_shape}, got shape "
                f"{b_shape}"
            )
    swapped = labels.c[-1] in labels.a
    a, b = (labels.b, labels.a) if swapped else (labels.a, labels.b)
    (row,), (inner,) = set(a) - set(b), set(a) & set(b) - set(labels.c)
    column = labels.c[-1]
    strides = [_strides(names, sizes) for names in (a, b, labels.c)]
    first = np.zeros((3, 1), np.int64)
    for label in labels.c:
        if label not in (row, column):
            steps = np.array([[[of[label]]] for of in strides]) * np.arange(sizes[label])
            first = (first[:, :, None] + steps).reshape(3, -1)
    of_a, of_b, of_c = strides
    return _Plan(
        swapped,
        tuple(sizes[label] for label in labels.c),
        (sizes[row], sizes[column], sizes[inner]),
        first,
        (of_a[row], of_a[inner], of_b[inner], of_b[column], of_c[row]),
    )


def _strides(names, sizes):
    """Elements from one index of each label to the next, of a contiguous tensor."""
    strides, elements = {}, 1
    for name in reversed(names):
        strides[name] = elements
        elements *= sizes[name]
    return strides

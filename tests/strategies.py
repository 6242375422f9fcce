"""Hypothesis strategies: convolution and matmul cases, with data made from a drawn seed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import reference
import reference_blocks
import reference_volumes
from hypothesis import strategies as st

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.block_tensor import BlockTensor

DATA_KINDS = ("normal", "heavy_tailed", "aligned_max", "zeros", "outlier")
KIND_WEIGHTS = (0.35, 0.15, 0.3, 0.05, 0.15)
MAX_MULTIPLY_ADDS = 1_500_000

seeds = st.integers(0, 2**32 - 1)
bit_widths = st.integers(2, 15)
data_kinds = st.sampled_from(DATA_KINDS)
flush_choices = st.sampled_from([None, None, None, "shortest", "middle", "longest"])


def float_data(rng, shape, kind, signs=1.0):
    """Return float32 data of a kind; ``aligned_max`` takes its signs from ``signs``."""
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    if kind == "aligned_max":
        return np.broadcast_to(np.float32(32767.0) * signs, shape).astype(np.float32)
    magnitude = np.float32(2.0) ** rng.integers(-30, 31)
    if kind == "heavy_tailed":
        return (rng.standard_t(1.3, shape) * magnitude).astype(np.float32)
    values = rng.standard_normal(shape) * magnitude
    if kind == "outlier" and values.size:
        values.flat[rng.integers(values.size)] = 1000 * magnitude
    return values.astype(np.float32)


#: What element-wise kernels take.
OPERAND_KINDS = ("float32", "integers", "blocks")


def as_operand_of_kind(numbers, kind):
    """A float32 array as an operand of a kind, or as integers if its channels make no blocks; and
    the operand's float64 values."""
    if kind == "float32":
        return numbers, numbers.astype(np.float64)
    block = reference_blocks.block_of(numbers.shape[-1])
    if kind == "blocks" and block:
        made = BlockTensor(*reference_blocks.to_blocks(numbers, block))
    else:
        made = dfpkeras.quantize(numbers, 15)
    return made, made.dequantize().astype(np.float64)


def operand(rng, shape, kind, bits, signs=1.0):
    return reference.quantize(float_data(rng, shape, kind, signs), bits)


def data_profile(seed):
    """Return (kinds, bits) of two operands for a seed.

    Derived from the seed instead of drawn one by one, because hypothesis prefers small integers and
    repeats itself, and narrow operands rarely need more than one flush.
    """
    rng = np.random.default_rng([seed, 0])
    kinds = rng.choice(DATA_KINDS, 2, p=KIND_WEIGHTS)
    wide, any_width = rng.integers(13, 16, 2), rng.integers(2, 16, 2)
    bits = np.where(rng.random(2) < 0.7, wide, any_width)
    return tuple(map(str, kinds)), tuple(map(int, bits))


def random_signs(rng, count):
    return rng.choice(np.array([-1.0, 1.0], np.float32), count)


def safe_interval(a, b, choice):
    """Turn a drawn choice into a flush interval that is safe for operands ``a`` and ``b``."""
    if choice is None:
        return None
    largest = reference.largest_magnitude(a.data) * reference.largest_magnitude(b.data)
    longest = min(reference.INT32_MAX // max(largest, 1), 2**20) // 2 * 2
    return {"shortest": 2, "middle": min(34, longest), "longest": longest}[choice]


@dataclass(frozen=True)
class ConvolutionCase:
    """Shapes, options and quantised operands of one convolution, of images or volumes."""

    input_shape: tuple
    kernel_shape: tuple
    strides: tuple
    padding: str
    dilation_rate: tuple
    groups: int
    kinds: tuple
    bits: tuple
    seed: int
    flush: str | None

    @property
    def options(self):
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }

    @property
    def output_shape(self):
        return self.oracle.output_shape(self.input_shape, self.kernel_shape, **self.options)

    @property
    def oracle(self):
        return reference if len(self.strides) == 2 else reference_volumes

    def kernel(self, direction):
        """The kernel of "forward", "backward_data" or "backward_weights"."""
        return getattr(kernels, f"conv{len(self.strides)}d_{direction}")

    def _rng(self, stream):
        return np.random.default_rng([self.seed, stream])

    @cached_property
    def _signs(self):
        """Signs of input and output channels that align every product of a sum."""
        rng = self._rng(1)
        return random_signs(rng, self.input_shape[-1]), random_signs(rng, self.kernel_shape[-1])

    @cached_property
    def x(self):
        return operand(self._rng(2), self.input_shape, self.kinds[0], self.bits[0], self._signs[0])

    @cached_property
    def w(self):
        inputs, outputs = self._signs
        by_group = inputs.reshape(self.groups, -1).T
        signs = np.repeat(by_group, self.kernel_shape[-1] // self.groups, axis=1) * outputs
        return operand(self._rng(3), self.kernel_shape, self.kinds[1], self.bits[1], signs)

    @cached_property
    def dy(self):
        return operand(self._rng(4), self.output_shape, self.kinds[0], self.bits[0], self._signs[1])


@st.composite
def channel_counts(draw):
    """Draw (groups, input channels of a group, output channels of a group)."""
    kind = draw(st.sampled_from(["single", "wide", "grouped", "single", "wide", "depthwise"]))
    if kind == "depthwise":
        return draw(st.sampled_from([1, 3, 16, 33, 70])), 1, draw(st.sampled_from([1, 1, 2, 3]))
    few = st.sampled_from([3, 16, 17, 8, 5, 31, 32, 2, 1])
    many = st.sampled_from([65, 130, 100, 64, 63])
    if kind == "wide":
        inputs, outputs = draw(st.sampled_from([(few, many), (many, few), (many, many)]))
        return 1, draw(inputs), draw(outputs)
    groups = draw(st.integers(2, 4)) if kind == "grouped" else 1
    return groups, draw(few), draw(few)


@st.composite
def spatial_axis(draw, padding, largest):
    """Draw (size, taps, stride, dilation) of one axis."""
    taps = draw(st.sampled_from([3, 1, 2, 3, 4, 5, 3, 1]))
    stride, dilation = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 1, 3]))
    smallest = (taps - 1) * dilation + 1 if padding == "valid" else 1
    return smallest + draw(st.sampled_from(range(largest + 1))), taps, stride, dilation


@st.composite
def convolution_cases(draw, kinds=None, rank=2):
    padding = draw(st.sampled_from(["valid", "same"]))
    groups, inputs, outputs = draw(channel_counts())
    largest = 12 if inputs * outputs <= 300 else 4
    # Every axis of a volume is shorter: few planes, rows and columns have all the borders.
    limits = [largest] * 2 if rank == 2 else [4, largest // 2, largest // 2]
    axes = [draw(spatial_axis(padding, limit)) for limit in limits]
    sizes, window, strides, dilations = zip(*axes, strict=True)
    kernel_shape = (*window, inputs, groups * outputs)
    options = {
        "strides": strides,
        "padding": padding,
        "dilation_rate": dilations,
        "groups": groups,
    }
    one_image = (1, *sizes, groups * inputs)
    oracle = reference if rank == 2 else reference_volumes
    work = np.prod(oracle.output_shape(one_image, kernel_shape, **options)) * np.prod(
        kernel_shape[:-1]
    )
    batch = draw(st.integers(1, 3)) if 3 * work <= MAX_MULTIPLY_ADDS else 1
    seed = draw(seeds)
    drawn_kinds, bits = data_profile(seed)
    return ConvolutionCase(
        input_shape=(batch, *one_image[1:]),
        kernel_shape=kernel_shape,
        **options,
        kinds=kinds or drawn_kinds,
        bits=bits,
        seed=seed,
        flush=draw(flush_choices),
    )


@dataclass(frozen=True)
class MatmulCase:
    """Sizes, transpositions and quantised operands of one matrix product."""

    rows: int
    inner: int
    columns: int
    transpose_a: bool
    transpose_b: bool
    kinds: tuple
    bits: tuple
    seed: int
    flush: str | None

    @property
    def options(self):
        return {"transpose_a": self.transpose_a, "transpose_b": self.transpose_b}

    @cached_property
    def operands(self):
        rng = np.random.default_rng(self.seed)
        shared = random_signs(rng, self.inner)
        left_signs = random_signs(rng, self.rows)[:, None] * shared
        right_signs = shared[:, None] * random_signs(rng, self.columns)
        a = operand(rng, left_signs.shape, self.kinds[0], self.bits[0], left_signs)
        b = operand(rng, right_signs.shape, self.kinds[1], self.bits[1], right_signs)
        return stored(a, self.transpose_a), stored(b, self.transpose_b)


def stored(matrix, transpose):
    """Store a matrix so that reading it transposed returns it."""
    data = np.ascontiguousarray(reference.oriented(matrix.data, transpose))
    return reference.Operand(data, matrix.exponent)


@st.composite
def matmul_cases(draw, kinds=None):
    size = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 129, 200]))
    seed = draw(seeds)
    drawn_kinds, bits = data_profile(seed)
    return MatmulCase(
        rows=draw(st.integers(1, 40)),
        inner=draw(st.one_of(size, st.sampled_from([500, 777]))),
        columns=draw(size),
        transpose_a=draw(st.booleans()),
        transpose_b=draw(st.booleans()),
        kinds=kinds or drawn_kinds,
        bits=bits,
        seed=seed,
        flush=draw(flush_choices),
    )

"""The bits of activations, weights and gradients, how they are rounded, how often sums are flushed,
and by which algorithms convolutions may be computed."""

import dataclasses

from dfpkeras.kernels.convolution_plan import check_algorithm
from dfpkeras.kernels.product_operands import INT32_MAX, check_flush_interval
from dfpkeras.kernels.quantized_tensor import MAX_BITS, MIN_BITS
from dfpkeras.kernels.tensor_format import TensorFormat
from dfpkeras.runtime.argument_checks import check_integer

# Magnitude bits of activations, weights and gradients. Every bit more halves the quantisation error
# and halves the number of products that provably fit one INT32 sum. Chosen by measurement: of the
# bits that keep the mean proven run at 64 products or more in every direction, on tensors of three
# networks in training on real images, these leave the least noise, since gradients are the noisiest
# operand (benchmarks/results/bit_budget.md).
ACTIVATION_BITS = 14
WEIGHT_BITS = 12
GRADIENT_BITS = 15

ROUNDINGS = ("nearest", "stochastic")

_DEFAULTS = {"activation": ACTIVATION_BITS, "weight": WEIGHT_BITS, "gradient": GRADIENT_BITS}


@dataclasses.dataclass(frozen=True)
class NumberFormat:
    """The number format of a layer.

    Args:
        activation_bits, weight_bits, gradient_bits: magnitude bits, 2 to 15. None for the default
            of 14, 12 and 15, or with ``flush_every`` for as many of them as are safe.
        rounding: "nearest" (ties to even), or "stochastic": up with the probability of the
            discarded fraction (section 3 of the paper). The random numbers are derived from the
            tensor's contents, so that results are repeatable. What a layer computes and rounds in
            one pass, such as batch norm or an activation, is rounded to nearest with 15 bits and
            from there stochastically; so with 15 bits, it is rounded to nearest. Concatenation, the
            gradient of max pooling, and the normalised input that batch norm keeps for its backward
            pass are always rounded to nearest.
        flush_every: None for the schedule that is proven from the data, or a fixed number of
            products, even, that are added in INT32 before the sum goes to FP32, in every
            convolution and dense layer, depthwise ones excepted. Bits not given are lowered, the
            highest first, until that many products of the largest integers fit.
        algorithm: algorithm of convolutions, see `dfpkeras.kernels.conv2d_forward`: "direct", or
            "auto" for the one that is expected to be the fastest for each shape and direction:
            direct, Winograd's F(2x2, 3x3), whose noise is that of the operands, or F(4x4, 3x3),
            whose noise is that of bfloat16 operands (docs/numerics.md); "winograd_2x2" and
            "winograd_4x4" for that algorithm wherever it is possible.

    Attributes:
        activation_bits, weight_bits, gradient_bits, rounding, flush_every, algorithm: as given,
            with numbers instead of None.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is out of range, ``rounding`` or ``algorithm`` unknown, or
            ``flush_every`` not safe with the bits given.
    """

    activation_bits: int | None = None
    weight_bits: int | None = None
    gradient_bits: int | None = None
    rounding: str = "nearest"
    flush_every: int | None = None
    algorithm: str = "auto"

    def __post_init__(self):
        given = {role: getattr(self, f"{role}_bits") for role in _DEFAULTS}
        given = {role: _check_bits(role, bits) for role, bits in given.items() if bits is not None}
        if self.rounding not in ROUNDINGS:
            raise ValueError(
                f"rounding: expected one of {', '.join(ROUNDINGS)}, got {self.rounding!r}"
            )
        check_algorithm(self.algorithm)
        bits = _DEFAULTS | given
        if self.flush_every is not None:
            object.__setattr__(self, "flush_every", check_flush_interval(self.flush_every))
            _lower(bits, given, self.flush_every)
        for role, number in bits.items():
            object.__setattr__(self, f"{role}_bits", number)

    @property
    def activation(self):
        """`TensorFormat` of activations."""
        return TensorFormat("activation", self.activation_bits, self.rounding)

    @property
    def weights(self):
        """`TensorFormat` of weights."""
        return TensorFormat("weights", self.weight_bits, self.rounding)

    @property
    def gradient(self):
        """`TensorFormat` of gradients."""
        return TensorFormat("gradient", self.gradient_bits, self.rounding)


def _lower(bits, given, flush_every):
    """Lowers the bits that are not given until every product of two operands is safe."""
    while unsafe := [pair for pair in _pairs() if not _is_safe(*map(bits.get, pair), flush_every)]:
        free = [role for role in unsafe[0] if role not in given and bits[role] > MIN_BITS]
        if not free:
            a, b = unsafe[0]
            raise ValueError(
                f"flush_every: {flush_every} products of {bits[a]} bits (the {a}s) and {bits[b]} "
                f"bits (the {b}s) may overflow INT32; fewer products or fewer bits are needed"
            )
        bits[max(free, key=bits.get)] -= 1


def _pairs():
    return [("activation", "weight"), ("gradient", "weight"), ("activation", "gradient")]


def _is_safe(a_bits, b_bits, products):
    return (2**a_bits - 1) * (2**b_bits - 1) * products <= INT32_MAX


def _check_bits(role, bits):
    bits = check_integer(f"{role}_bits", bits)
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(
            f"{role}_bits: expected {MIN_BITS} to {MAX_BITS} magnitude bits, got {bits}"
        )
    return bits

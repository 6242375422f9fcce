"""How well the integers of a tensor represent it."""

import math
import typing

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import parts
from dfpkeras.kernels.product_operands import tensor_parts

# Mean square of the rounding error in units of the last place, if every fraction is as likely:
# of f to nearest, or of f and 1 - f with the probabilities 1 - f and f.
_ERROR = {"nearest": 1 / 12, "stochastic": 1 / 6}


# Share of the numbers other than 0, the largest, that need not be represented well.
_OUTLIERS = 0.01


class Measurement(typing.NamedTuple):
    """What the integers of a tensor are like; docs/monitor.md has the definitions.

    Attributes:
        exponent: int, the shared exponent.
        largest: float, the largest magnitude: that of the integers times ``2**exponent``.
        zeros: float, share of the integers that are 0.
        saturated: float, share of them that have the largest magnitude of the format's bits.
        sqnr_db: float, signal-to-quantisation-noise ratio in dB; NaN if all integers are 0, Inf if
            nothing was rounded.
        is_measured: bool, whether `sqnr_db` compares with the numbers before rounding, or else
            follows from the integers.
        useful_bits: float, log2 of the magnitude that a hundredth of the numbers other than 0
            exceed, in units of the last place, at least 0; NaN if all numbers are 0.

    All floats are NaN for a tensor that held NaN or Inf, and for an empty one.
    """

    exponent: int
    largest: float
    zeros: float
    saturated: float
    sqnr_db: float
    is_measured: bool
    useful_bits: float


def measure(tensor, bits, rounding="nearest", source=None):
    """Measures a tensor, all of it, in one pass.

    Args:
        tensor: `DFPTensor`.
        bits: magnitude bits of its format.
        rounding: "nearest" or "stochastic".
        source: ``float32`` array or `BlockTensor` that it was quantised from, or None if a kernel
            computed and rounded it in one pass.

    Returns:
        `Measurement`.
    """
    if not tensor.is_finite or not tensor.data.size:
        return Measurement(tensor.exponent, *[math.nan] * 4, False, math.nan)
    counts, saturated, squares, numbers, signal, noise = _native.measure(
        *tensor_parts(tensor), bits, None if source is None else parts(source)
    )
    size, nonzero = tensor.data.size, counts[0]
    if source is None:
        # Magnitudes below 1/2 became 0: half as many as those around 1 if they lie as close to each
        # other. Other zeros, such as those of a ReLU, are exact.
        numbers = nonzero + min(size - nonzero, (nonzero - counts[1]) / 2)
        signal, noise = squares, numbers * _ERROR[rounding]
    return Measurement(
        exponent=tensor.exponent,
        largest=math.ldexp(tensor.max_abs, tensor.exponent),
        zeros=(size - nonzero) / size,
        saturated=saturated / size,
        sqnr_db=_decibels(signal, noise),
        is_measured=source is not None,
        useful_bits=_useful_bits(counts, numbers),
    )


def _decibels(signal, noise):
    if not noise:
        return math.inf if signal else math.nan
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _useful_bits(counts, numbers):
    """From the numbers of magnitudes of at least 2**k, as if they were spread evenly in log2
    between two powers, and how many numbers are not 0."""
    outliers = numbers * _OUTLIERS
    if counts[0] <= outliers:
        return 0.0 if numbers else math.nan
    k = max(k for k, count in enumerate(counts) if count > outliers)
    above = counts[k + 1] if k + 1 < len(counts) else 0
    return k + (counts[k] - outliers) / (counts[k] - above)

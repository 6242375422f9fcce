"""The dynamic fixed point tensor: INT16 elements and one shared power-of-two exponent."""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.runtime.argument_checks import check_integer, kind_of
from dfpkeras.runtime.memory import aligned_empty

MIN_BITS = 2
MAX_BITS = 15
MIN_EXPONENT = -128
MAX_EXPONENT = 126
#: The shared exponent of a tensor that held NaN or Inf: everything computed from it is NaN.
NONFINITE_EXPONENT = 127

#: Rounding modes, in the order of the C enumeration ``dfp_rounding``.
ROUNDINGS = ("nearest", "stochastic", "truncate", "biased")


class DFPTensor:
    """``data * 2**exponent``: a dynamic fixed point tensor (Das et al., ICLR 2018, section 3).

    Args:
        data: C-contiguous ``int16`` array of any shape. The value -32768 is not allowed: two
            products of it by itself overflow an INT32 sum.
        exponent: the shared exponent, an integer in [-128, 126]; 127 marks a tensor that held NaN
            or Inf, from which only NaN can be computed.

    Attributes:
        data: the ``int16`` array.
        exponent: the shared exponent.
        max_abs: the maximum of ``|data|``, from which overflow safety is proven; for a part of a
            tensor, an upper bound.

    Raises:
        TypeError: if ``data`` is not an ``int16`` array or ``exponent`` is not an integer.
        ValueError: if ``data`` contains -32768 or ``exponent`` is out of range.
    """

    __slots__ = ("data", "exponent", "max_abs")

    def __init__(self, data, exponent):
        if not isinstance(data, np.ndarray) or data.dtype != np.int16:
            raise TypeError(f"data: expected an int16 NumPy array, got {kind_of(data)}")
        exponent = check_integer("exponent", exponent)
        if not MIN_EXPONENT <= exponent <= NONFINITE_EXPONENT:
            raise ValueError(
                f"exponent: expected an integer in [{MIN_EXPONENT}, {MAX_EXPONENT}] "
                f"(or {NONFINITE_EXPONENT} for non-finite), got {exponent}"
            )
        # np.ascontiguousarray would turn a scalar into a vector.
        self.data = np.asarray(data, order="C")
        self.exponent = exponent
        self.max_abs = _native.max_abs(self.data.reshape(-1)) if data.size else 0
        if self.max_abs > np.iinfo(np.int16).max:
            raise ValueError(
                "data: expected elements in [-32767, 32767], got -32768, "
                "whose products overflow INT32"
            )

    @classmethod
    def _wrap(cls, data, exponent, max_abs):
        """From parts that are known to be valid, without checks."""
        tensor = cls.__new__(cls)
        tensor.data = data
        tensor.exponent = exponent
        tensor.max_abs = max_abs
        return tensor

    @classmethod
    def from_int32(cls, data, exponent, bits=MAX_BITS, rounding="nearest", seed=None):
        """Down-conversion of INT32 results (section 3 of the paper).

        Shifts right by ``Rs = bit_length(max|data|) - bits`` where that is positive, rounding the
        magnitudes, and adds ``Rs`` to the exponent.

        Args:
            data: ``int32`` array.
            exponent: exponent of ``data``, any integer. Where the result's exponent would be
                smaller than -128, more bits are shifted out; where it would be larger than 126, the
                result is the non-finite tensor.
            bits: magnitude bits of the result, 2 to 15.
            rounding: see `quantize`.
            seed: see `quantize`.

        Returns:
            A `DFPTensor` of the same shape.
        """
        if not isinstance(data, np.ndarray) or data.dtype != np.int32:
            raise TypeError(f"data: expected an int32 NumPy array, got {kind_of(data)}")
        exponent = check_integer("exponent", exponent)
        bits, mode, seed = _check_quantization(bits, rounding, seed)
        # Beyond this range every result is zero or non-finite, and C's int32 stays in range.
        exponent = min(max(exponent, -1024), 1024)
        q = aligned_empty(data.shape, np.int16)
        if not data.size:
            return cls._wrap(q, 0, 0)
        flat = np.ascontiguousarray(data).reshape(-1)
        scale = _native.down_convert(flat, exponent, bits, mode, seed, q.reshape(-1))
        return cls._wrap(q, *scale)

    @property
    def shape(self):
        """The shape, a tuple of integers."""
        return self.data.shape

    @property
    def is_finite(self):
        """False if the tensor was made from NaN or Inf."""
        return self.exponent != NONFINITE_EXPONENT

    def dequantize(self):
        """``data * 2**exponent`` as ``float32``, all NaN if the tensor is not finite."""
        x = aligned_empty(self.shape, np.float32)
        if not self.is_finite:
            x.fill(np.nan)
        elif x.size:
            _native.dequantize(self.data.reshape(-1), self.exponent, x.reshape(-1))
        return x

    def reshape(self, *shape):
        """The same elements in another shape; ``data`` is shared."""
        return DFPTensor._wrap(self.data.reshape(*shape), self.exponent, self.max_abs)

    def __add__(self, other):
        """Element-wise sum of tensors of one shape, with 15 magnitude bits.

        The operand with the smaller exponent is shifted right as far as INT32 cannot hold the sum.
        """
        large, small = _same_shape("+", self, other)
        if large is None:
            return NotImplemented
        if large.exponent < small.exponent:
            large, small = small, large
        if not large.is_finite:
            return _nonfinite(self.shape)
        if not large.max_abs:
            # A zero tensor's exponent means nothing; it must not shift the other operand away.
            large = DFPTensor._wrap(large.data, small.exponent, 0)
        total = np.empty(self.shape, np.int32)
        if not total.size:
            return DFPTensor.from_int32(total, 0)
        exponent = _native.add_aligned(
            large.data.reshape(-1),
            large.exponent,
            small.data.reshape(-1),
            small.exponent,
            total.reshape(-1),
        )
        return DFPTensor.from_int32(total, exponent)

    def __mul__(self, other):
        """Element-wise product of tensors of one shape, with 15 magnitude bits; exponents add."""
        a, b = _same_shape("*", self, other)
        if a is None:
            return NotImplemented
        if not (a.is_finite and b.is_finite):
            return _nonfinite(self.shape)
        product = np.empty(self.shape, np.int32)
        if product.size:
            _native.multiply(a.data.reshape(-1), b.data.reshape(-1), product.reshape(-1))
        return DFPTensor.from_int32(product, a.exponent + b.exponent)

    def __repr__(self):
        return f"DFPTensor(shape={self.shape}, exponent={self.exponent}, max_abs={self.max_abs})"


def quantize(
    x: np.ndarray | BlockTensor,
    bits: int = MAX_BITS,
    rounding: str = "nearest",
    seed: int | None = None,
) -> DFPTensor:
    """Quantises an FP32 array to dynamic fixed point (section 3 of the paper).

    ``exponent = floor(log2(max|x|)) - (bits - 1)``, raised to -128 if smaller, and
    ``data = round(x * 2**-exponent)``, clamped to ±(2**bits - 1). An all-zero array gets
    exponent 0. An array with NaN or Inf gives the non-finite tensor, from which only NaN can be
    computed.

    Args:
        x: ``float32`` array of any shape, or a `BlockTensor`, which stands for one.
        bits: magnitude bits, 2 to 15; 15 is full INT16.
        rounding: how magnitudes are rounded, always symmetrically in sign: "nearest" (ties to
            even), "stochastic" (up with the probability of the discarded fraction), "truncate", or
            "biased" (up if one of the top two discarded bits is set, that is, if the discarded
            fraction is at least 1/4).
        seed: integer for "stochastic" rounding, which needs it: the result is a function of the
            seed and each element's index, whatever the number of threads.

    Returns:
        A `DFPTensor` of the shape of ``x``.

    Raises:
        TypeError: if ``x`` is not a ``float32`` array, or ``bits`` or ``seed`` not an integer.
        ValueError: if ``bits`` is out of range, ``rounding`` unknown or a ``seed`` is missing.
    """
    if isinstance(x, BlockTensor):
        parts = x.parts
    elif isinstance(x, np.ndarray) and x.dtype == np.float32:
        parts = None, 0, 0, np.ascontiguousarray(x).reshape(-1)
    else:
        raise TypeError(f"x: expected a float32 NumPy array, got {kind_of(x)}")
    bits, mode, seed = _check_quantization(bits, rounding, seed)
    q = aligned_empty(x.shape, np.int16)
    if not x.size:
        return DFPTensor._wrap(q, 0, 0)
    return DFPTensor._wrap(q, *_native.quantize(parts, bits, mode, seed, q.reshape(-1)))


def _check_quantization(bits, rounding, seed):
    """(bits, index of the rounding mode, seed as an unsigned 64-bit number)."""
    bits = check_integer("bits", bits)
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"bits: expected {MIN_BITS} to {MAX_BITS} magnitude bits, got {bits}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding: expected one of {', '.join(ROUNDINGS)}, got {rounding!r}")
    if rounding == "stochastic" and seed is None:
        raise ValueError("seed: expected an integer for rounding='stochastic', got None")
    seed = 0 if seed is None else check_integer("seed", seed)
    return bits, ROUNDINGS.index(rounding), seed % 2**64


def _same_shape(operation, a, b):
    """(a, b) if b is a tensor of the same shape, (None, None) if it is not a tensor."""
    if not isinstance(b, DFPTensor):
        return None, None
    if a.shape != b.shape:
        raise ValueError(f"{operation}: expected operands of one shape, got {a.shape}, {b.shape}")
    return a, b


def _nonfinite(shape):
    q = aligned_empty(shape, np.int16)
    q.fill(0)
    return DFPTensor._wrap(q, NONFINITE_EXPONENT, 0)

"""What a tensor is to a product, and the integers that the number format gives it for that."""

import typing
import zlib

import numpy as np

from dfpkeras.kernels.number_format import get_number_format
from dfpkeras.kernels.quantized_tensor import MAX_BITS, MIN_BITS, DFPTensor, quantize

_SEED_ELEMENTS = 1024


class Role(typing.NamedTuple):
    """The role of a tensor.

    Attributes:
        name: str, as kernels are counted by.
        field: str, the field of `NumberFormat` with its magnitude bits.
    """

    name: str
    field: str

    @property
    def bits(self):
        """Magnitude bits of the role's integers."""
        return getattr(get_number_format(), self.field)

    @property
    def format(self):
        """What decides which integers a tensor has in this role: (bits, rounding)."""
        return self.bits, get_number_format().rounding

    @property
    def written_bits(self):
        """Magnitude bits in which a kernel that rounds to nearest writes what `rounded` takes."""
        return self.bits if get_number_format().rounding == "nearest" else MAX_BITS


ACTIVATION = Role("activation", "activation_bits")
WEIGHTS = Role("weights", "weight_bits")
GRADIENT = Role("gradient", "gradient_bits")


def quantized(x, role):
    """Returns the `DFPTensor` of a float32 array in a role."""
    rounding = get_number_format().rounding
    return quantize(x, role.bits, rounding, None if rounding == "nearest" else _seed(x))


def rounded(tensor, role):
    """Returns the `DFPTensor` that a kernel wrote in `role.written_bits`, in the role's own bits.

    Both have one grid of numbers, whatever the rounding: what is dropped is the difference of the
    bits, not what the largest number present could do without.
    """
    dropped = role.written_bits - role.bits
    if not dropped or not tensor.is_finite or not tensor.max_abs:
        return tensor
    bits = max(tensor.max_abs.bit_length() - dropped, MIN_BITS)
    data = tensor.data.astype(np.int32)
    return DFPTensor.from_int32(data, tensor.exponent, bits, "stochastic", _seed(tensor.data))


def _seed(x):
    """A seed that follows from the contents: kernels run in no order that could be repeated."""
    return zlib.crc32(np.ascontiguousarray(x.reshape(-1)[:: x.size // _SEED_ELEMENTS + 1]))

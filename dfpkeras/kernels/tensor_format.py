"""The format of activations, weights or gradients: how many bits, and how they are rounded."""

import typing
import zlib

import numpy as np

from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.kernels.quantized_tensor import MAX_BITS, MIN_BITS, DFPTensor, quantize
from dfpkeras.runtime import kernel_observers

_SEED_ELEMENTS = 1024


class TensorFormat(typing.NamedTuple):
    """The format of the tensors of one role.

    Attributes:
        role: "activation", "weights" or "gradient", part of the name that kernels are counted by.
        bits: int, magnitude bits.
        rounding: "nearest" or "stochastic".
    """

    role: str
    bits: int
    rounding: str

    @property
    def written_bits(self):
        """Magnitude bits of what a kernel that rounds to nearest writes for `round_to`."""
        return self.bits if self.rounding == "nearest" else MAX_BITS

    def gives_the_same_integers_as(self, other):
        """Whether both formats give a tensor the same integers; the role does not matter."""
        return self[1:] == other[1:]


def quantize_to(x, tensor_format):
    """Returns the `DFPTensor` of a float32 array, or of a `BlockTensor`, in a `TensorFormat`."""
    contents = x.data if isinstance(x, BlockTensor) else x
    seed = None if tensor_format.rounding == "nearest" else _seed(contents)
    tensor = quantize(x, tensor_format.bits, tensor_format.rounding, seed)
    kernel_observers.quantized(tensor, tensor_format, x)
    return tensor


def round_to(tensor, tensor_format):
    """Rounds the `DFPTensor` that a kernel wrote with `written_bits` to the format's own bits.

    The grid of the result does not depend on the rounding: exactly the difference of the bits is
    dropped, even if the largest number present could keep more.
    """
    dropped = tensor_format.written_bits - tensor_format.bits
    if dropped and tensor.is_finite and tensor.max_abs:
        bits = max(tensor.max_abs.bit_length() - dropped, MIN_BITS)
        data, seed = tensor.data.astype(np.int32), _seed(tensor.data)
        tensor = DFPTensor.from_int32(data, tensor.exponent, bits, "stochastic", seed)
    kernel_observers.quantized(tensor, tensor_format)
    return tensor


def _seed(x):
    """A seed derived from the contents, since the order in which kernels run is not repeatable."""
    return zlib.crc32(np.ascontiguousarray(x.reshape(-1)[:: x.size // _SEED_ELEMENTS + 1]))

"""Differentiable integer operations, written once over the interface of a backend.

They take and return float32 tensors of the backend; a tensor whose integers are known has
a `views.QuantizedView`, from which the next operation reads them. `number_format` is the
`dfpkeras.kernels.number_format.NumberFormat` of the layer that calls.
"""

from dfpkeras.ops.batch_normalization import batch_norm
from dfpkeras.ops.data_movement import concatenate, crop, reshape, transpose, zero_pad
from dfpkeras.ops.einsum import einsum
from dfpkeras.ops.elementwise import activate, add
from dfpkeras.ops.extremum import maximum, minimum
from dfpkeras.ops.group_normalization import group_norm
from dfpkeras.ops.integer_convolution import convolution, depthwise_convolution
from dfpkeras.ops.integer_matrix_product import matmul
from dfpkeras.ops.layer_normalization import layer_norm
from dfpkeras.ops.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from dfpkeras.ops.prelu import prelu
from dfpkeras.ops.product import multiply, multiply_by, scale_channels
from dfpkeras.ops.transposed_convolution import transposed_convolution
from dfpkeras.ops.upsampling import upsample
from dfpkeras.ops.weighted_sum import weighted_sum

__all__ = [
    "activate",
    "add",
    "average_pool",
    "batch_norm",
    "concatenate",
    "convolution",
    "crop",
    "depthwise_convolution",
    "einsum",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "layer_norm",
    "matmul",
    "max_pool",
    "maximum",
    "minimum",
    "multiply",
    "multiply_by",
    "prelu",
    "reshape",
    "scale_channels",
    "transpose",
    "transposed_convolution",
    "upsample",
    "weighted_sum",
    "zero_pad",
]

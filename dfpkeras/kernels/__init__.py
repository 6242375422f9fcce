"""The integer kernels on NumPy arrays.

Operands are `DFPTensor`; products are INT16 by INT16, summed in INT32 and flushed into FP32 as
often as the data require for INT32 never to overflow (section 4 of the paper; the proof is in
``include/dfp/engine/flush_schedule.h``). The result is FP32: the sum times ``2**(exponent +
exponent)``, within ``(flushes + 1) * 2**-24 * sum(|a * b|)`` of the exact result, and the same to
the last bit for every instruction set and number of threads. If an operand is not finite, the
result is all NaN.

``flush_every`` replaces the proven schedule by a fixed interval of that many products, an even
number; it must be safe for the largest magnitudes present:
``max|a| * max|b| * flush_every <= 2**31 - 1``.
"""

from dfpkeras.kernels.batch_normalization import (
    batch_norm_backward,
    batch_norm_backward_frozen,
    batch_norm_backward_reduce,
    batch_norm_fold,
    batch_norm_forward,
    batch_norm_gradients,
    batch_norm_statistics,
)
from dfpkeras.kernels.convolution import (
    conv2d_backward_data,
    conv2d_backward_weights,
    conv2d_forward,
    conv3d_backward_data,
    conv3d_backward_weights,
    conv3d_forward,
)
from dfpkeras.kernels.data_movement import concatenate, crop, split, zero_pad
from dfpkeras.kernels.depthwise_convolution import (
    depthwise_conv2d_backward_data,
    depthwise_conv2d_backward_weights,
    depthwise_conv2d_forward,
)
from dfpkeras.kernels.einsum import einsum
from dfpkeras.kernels.elementwise import (
    activation_backward,
    activation_forward,
    add,
    sum_gradients,
    weighted_sum,
)
from dfpkeras.kernels.extremum import maximum, maximum_backward, minimum, minimum_backward
from dfpkeras.kernels.group_normalization import group_norm_backward, group_norm_forward
from dfpkeras.kernels.int8_matrix_product import matmul_int8
from dfpkeras.kernels.layer_normalization import layer_norm_backward, layer_norm_forward
from dfpkeras.kernels.matrix_product import matmul, sum_channels
from dfpkeras.kernels.pooling import (
    average_pool,
    average_pool_backward,
    global_average_pool,
    global_average_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    max_pool,
    max_pool_backward,
    sum_pool,
    upsample,
)
from dfpkeras.kernels.prelu import prelu_backward, prelu_forward
from dfpkeras.kernels.product import multiply, sum_products
from dfpkeras.kernels.volume_pooling import (
    average_pool3d,
    average_pool3d_backward,
    max_pool3d,
    max_pool3d_backward,
)
from dfpkeras.runtime.isa import available_isas, get_isa, set_isa
from dfpkeras.runtime.machine import info

__all__ = [
    "activation_backward",
    "activation_forward",
    "add",
    "available_isas",
    "average_pool",
    "average_pool3d",
    "average_pool3d_backward",
    "average_pool_backward",
    "batch_norm_backward",
    "batch_norm_backward_frozen",
    "batch_norm_backward_reduce",
    "batch_norm_fold",
    "batch_norm_forward",
    "batch_norm_gradients",
    "batch_norm_statistics",
    "concatenate",
    "conv2d_backward_data",
    "conv2d_backward_weights",
    "conv2d_forward",
    "conv3d_backward_data",
    "conv3d_backward_weights",
    "conv3d_forward",
    "crop",
    "depthwise_conv2d_backward_data",
    "depthwise_conv2d_backward_weights",
    "depthwise_conv2d_forward",
    "einsum",
    "get_isa",
    "global_average_pool",
    "global_average_pool_backward",
    "global_max_pool",
    "global_max_pool_backward",
    "group_norm_backward",
    "group_norm_forward",
    "info",
    "layer_norm_backward",
    "layer_norm_forward",
    "matmul",
    "matmul_int8",
    "max_pool",
    "max_pool3d",
    "max_pool3d_backward",
    "max_pool_backward",
    "maximum",
    "maximum_backward",
    "minimum",
    "minimum_backward",
    "multiply",
    "prelu_backward",
    "prelu_forward",
    "set_isa",
    "split",
    "sum_channels",
    "sum_gradients",
    "sum_pool",
    "sum_products",
    "upsample",
    "weighted_sum",
    "zero_pad",
]

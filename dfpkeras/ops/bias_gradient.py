"""The gradient of a bias."""

from dfpkeras.backend import current
from dfpkeras.kernels.matrix_product import sum_channels as sum_channels_kernel
from dfpkeras.ops.kernel_arguments import unpack
from dfpkeras.ops.kernel_hits import hits


def sum_channels(data, scale):
    """The float32 sums of integers over all dimensions but the last."""
    (sums,) = current().call(_sum_channels, [data, scale], [current().float32])
    return current().with_shape(sums, data.shape[-1:])


def _sum_channels(dy, dy_scale):
    hits.add("bias_gradient")
    return [sum_channels_kernel(unpack(dy, dy_scale))]

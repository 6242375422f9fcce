"""The contender all others are measured against."""

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.number_format import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS

_BITS = {"x": ACTIVATION_BITS, "w": WEIGHT_BITS, "dy": GRADIENT_BITS}


class IntegerKernels:
    """The kernels of this package; `dfpkeras.benchmark.peers` describes the interface.

    Args:
        algorithm: algorithm of convolutions, as in `dfpkeras.kernels.conv2d_forward`.
    """

    name = "dfpkeras"
    version = dfpkeras.__version__

    def __init__(self, algorithm="direct"):
        self._algorithm = algorithm

    def prepare(self, layer, direction, operands):
        """Quantises the operands, untimed, with the bits of the dtype policy."""
        q = {name: dfpkeras.quantize(value, _BITS[name]) for name, value in operands.items()}
        x, w, dy = q["x"], q["w"], q["dy"]
        if layer.kind == "dense":
            return {
                "forward": lambda: kernels.matmul(x, w),
                "backward_data": lambda: kernels.matmul(dy, w, transpose_b=True),
                "backward_weights": lambda: kernels.matmul(x, dy, transpose_a=True),
            }[direction]
        options = {
            "strides": layer.strides,
            "padding": layer.padding,
            "groups": layer.groups,
            "algorithm": self._algorithm,
        }
        return {
            "forward": lambda: kernels.conv2d_forward(x, w, **options),
            "backward_data": lambda: kernels.conv2d_backward_data(dy, w, x.shape, **options),
            "backward_weights": lambda: kernels.conv2d_backward_weights(x, dy, w.shape, **options),
        }[direction]

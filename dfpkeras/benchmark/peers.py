"""The FP32 kernels of other libraries, behind one interface.

A contender has a ``name``, a ``version``, and

    prepare(layer, direction, operands) -> callable

which turns NumPy operands into the library's own tensors, untimed, and returns a function without
arguments that computes one direction of the layer and returns the result as the library's own
tensor, in NHWC memory order. It raises `UnsupportedError` if the library cannot do that.
"""

import importlib.util


class UnsupportedError(Exception):
    """A library cannot compute this; the message says why."""


class TensorFlow:
    """TensorFlow float32, NHWC, on the CPU.

    Args:
        num_threads: threads within an operation.

    Raises:
        UnsupportedError: TensorFlow is not installed, or runs already with other threads.
    """

    name = "TensorFlow"

    def __init__(self, num_threads):
        _require("tensorflow")
        import tensorflow as tf

        self._tf = tf
        self.version = tf.__version__
        threading = tf.config.threading
        try:
            if threading.get_intra_op_parallelism_threads() != num_threads:
                threading.set_intra_op_parallelism_threads(num_threads)
            if tf.config.get_visible_devices("GPU"):
                tf.config.set_visible_devices([], "GPU")
        except RuntimeError as error:
            raise UnsupportedError(f"runs already in this process: {error}") from error

    def prepare(self, layer, direction, operands):
        """See the module's description."""
        tf = self._tf
        tensors = {name: tf.constant(value) for name, value in operands.items()}
        make = self._matmul if layer.kind == "dense" else self._convolution
        call = make(layer, **tensors)[direction]
        try:
            call()
        except tf.errors.OpError as error:
            raise UnsupportedError(error.message) from error
        return call

    def _matmul(self, layer, x, w, dy):
        matmul = self._tf.linalg.matmul
        return {
            "forward": lambda: matmul(x, w),
            "backward_data": lambda: matmul(dy, w, transpose_b=True),
            "backward_weights": lambda: matmul(x, dy, transpose_a=True),
        }

    def _convolution(self, layer, x, w, dy):
        tf = self._tf
        # The number of groups follows from the shapes of x and w.
        options = {
            "strides": [1, layer.strides, layer.strides, 1],
            "padding": layer.padding.upper(),
        }
        x_sizes, w_sizes = tf.constant(x.shape), tf.constant(w.shape)
        return {
            "forward": lambda: tf.nn.conv2d(x, w, **options),
            "backward_data": lambda: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x_sizes, filter=w, out_backprop=dy, **options
            ),
            "backward_weights": lambda: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=w_sizes, out_backprop=dy, **options
            ),
        }


class PyTorch:
    """PyTorch float32, channels_last, on the CPU.

    Args:
        num_threads: threads within an operation.

    Raises:
        UnsupportedError: PyTorch is not installed.
    """

    name = "PyTorch"

    def __init__(self, num_threads):
        _require("torch")
        import torch

        self._torch = torch
        self.version = torch.__version__
        torch.set_num_threads(num_threads)

    def prepare(self, layer, direction, operands):
        """See the module's description."""
        make = self._matmul if layer.kind == "dense" else self._convolution
        tensors = {name: self._torch.from_numpy(value) for name, value in operands.items()}
        return make(layer, **tensors)[direction]

    def _matmul(self, layer, x, w, dy):
        torch = self._torch
        w = w.t().contiguous()  # (units, inputs), as torch.nn.Linear keeps it.
        return {
            "forward": lambda: torch.nn.functional.linear(x, w),
            "backward_data": lambda: torch.mm(dy, w),
            "backward_weights": lambda: torch.mm(dy.t(), x),
        }

    def _convolution(self, layer, x, w, dy):
        torch = self._torch
        x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)
        w = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        stride, padding = (layer.strides,) * 2, self._padding(layer)
        dilation, groups = (1, 1), layer.groups

        def backward(*outputs):
            return torch.ops.aten.convolution_backward(
                dy, x, w, None, stride, padding, dilation, False, (0, 0), groups, outputs
            )

        return {
            "forward": lambda: torch.nn.functional.conv2d(
                x, w, None, stride, padding, dilation, groups
            ),
            "backward_data": lambda: backward(True, False, False)[0],
            "backward_weights": lambda: backward(False, True, False)[1],
        }

    @staticmethod
    def _padding(layer):
        """Zeros on every side.

        TensorFlow's "same" puts an odd zero below and on the right; PyTorch cannot, and gets one
        more on the other side, too: results are shifted, sizes and work are the same.
        """
        if layer.padding == "valid":
            return 0, 0
        height, width = layer.y_shape(1)[1:3]
        return tuple(
            -(-max((out - 1) * layer.strides + layer.kernel_size - size, 0) // 2)
            for out, size in ((height, layer.height), (width, layer.width))
        )


#: Every library that is compared with, in the order of the tables.
PEERS = (TensorFlow, PyTorch)


def find_peers(num_threads):
    """Sets up every peer that is installed.

    Args:
        num_threads: threads within an operation.

    Returns:
        A list of contenders, and a dict from the name of each other library to the reason why it
        is left out.
    """
    found, missing = [], {}
    for peer in PEERS:
        try:
            found.append(peer(num_threads))
        except UnsupportedError as error:
            missing[peer.name] = str(error)
    return found, missing


def _require(module):
    if importlib.util.find_spec(module) is None:
        raise UnsupportedError("not installed")

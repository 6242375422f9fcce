"""Results do not depend on the floating-point mode of the thread that calls."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from float_environments import MODES, float_mode, linux_only, mode_in_force

from dfpkeras import kernels
from dfpkeras.backend.tensorflow.kernel_calls import call
from dfpkeras.kernels.activation import FUNCTIONS
from dfpkeras.kernels.quantized_tensor import ROUNDINGS, DFPTensor, quantize

pytestmark = linux_only

#: log2 of the results' magnitude: ordinary FP32 numbers, and subnormal ones.
SCALES = (0, -130)


class Operands:
    """Operands of every kernel, for results of magnitudes up to about 2**scale."""

    def __init__(self, scale):
        self.scale, self.rng = scale, np.random.default_rng(5)
        self.x, self.dy = self.floats(2, 6, 6, 20), self.floats(2, 6, 6, 20)
        self.xq, self.dyq = self.integers(2, 6, 6, 20), self.integers(2, 6, 6, 20)
        self.pooled = self.integers(2, 3, 3, 20)
        self.one_pixel = self.floats(2, 20)
        self.channels = [self.floats(20) for _ in range(4)]
        self.variance = np.abs(self.floats(20))
        self.sums = kernels.batch_norm_backward_reduce(self.dy, self.x, self.channels[0])
        # Products of two of these have results of that magnitude.
        self.a, self.b = (self.integers(2, 6, 6, 20, parts=2) for _ in range(2))
        # Where functions are not almost linear.
        self.near_1 = np.linspace(-9, 9, self.x.size, dtype=np.float32).reshape(self.x.shape)
        self.factors = self.floats(2, 1, 1, 20)
        self.matrix = self.integers(20, 20, parts=2)
        self.kernel, self.taps = self.integers(3, 3, 20, 20, parts=2), self.integers(3, 3, 20, 2)

    def floats(self, *shape):
        spread = self.rng.integers(-8, 1, shape) + self.scale
        return np.ldexp(self.rng.standard_normal(shape), spread).astype(np.float32)

    def integers(self, *shape, parts=1):
        data = self.rng.integers(-(2**12), 2**12, shape) >> self.rng.integers(0, 8, shape)
        return DFPTensor(data.astype(np.int16), max(self.scale // parts - 12, -128))


def _arithmetic(o):
    wide = o.xq.data.astype(np.int32) * 1001
    roundings = [DFPTensor.from_int32(wide, -100, 9, rounding, 7) for rounding in ROUNDINGS]
    return o.xq + o.dyq, o.a * o.b, roundings


_SAME = {"padding": "same"}


def _volume(x):
    """Images as the planes of a volume."""
    return x.reshape(1, *x.shape)


def _volume_kernel(kernel):
    """A kernel of 3x3 taps as one of depth 3."""
    return kernel.reshape(3, 1, *kernel.shape[1:])


#: The calls of each kernel.
CALLS = {
    "activation_backward": lambda k, o: [
        k(o.dy, o.xq, "relu6"),
        *(k(o.dy, None, name, x=o.near_1) for name in FUNCTIONS),
    ],
    "activation_forward": lambda k, o: [
        k(o.x, "relu"),
        k(o.x, None, bounds=(-1 / 3, 1 / 3)),
        *(k(x, name) for name in FUNCTIONS for x in (o.x, o.near_1)),
    ],
    "add": lambda k, o: [k(o.x, o.dyq, "relu"), k(o.x, o.dy)],
    "average_pool": lambda k, o: k(o.xq, 3, 2, "same"),
    "average_pool3d": lambda k, o: k(_volume(o.xq), 2, 1, "same"),
    "average_pool3d_backward": lambda k, o: k(_volume(o.xq), _volume(o.xq).shape, 2, 1, "same"),
    "average_pool_backward": lambda k, o: k(o.pooled, o.x.shape, 3, 2, "same"),
    "batch_norm_backward": lambda k, o: [
        k(dy, x, *o.channels, *o.channels[:2], np.abs(o.channels[0]), want_dz=True)
        for dy, x in ((o.dy, o.x), (o.dyq, o.xq))
    ],
    "batch_norm_backward_frozen": lambda k, o: k(o.dy, o.channels[0], want_dz=True),
    "batch_norm_backward_reduce": lambda k, o: [
        k(o.dy, o.x, o.channels[0], o.xq, "relu6"),
        k(o.dyq, o.xq, o.channels[0]),
    ],
    "batch_norm_fold": lambda k, o: k(*o.channels[:3], o.variance, 2.0**o.scale / 3),
    "batch_norm_forward": lambda k, o: [
        k(o.x, *o.channels[:2], residual=o.dy, unit_fold=o.channels[2:]),
        k(o.xq, *o.channels[:2], activation="relu6"),
    ],
    "batch_norm_gradients": lambda k, o: [
        k(o.channels[0], o.variance, 2.0**o.scale / 3, o.sums, 72, training)
        for training in (True, False)
    ],
    "batch_norm_statistics": lambda k, o: [k(o.x), k(o.xq), k(np.tile(o.x, (5, 20, 20, 1)))],
    "concatenate": lambda k, o: k([o.x, o.xq, o.dyq]),
    "conv2d_backward_data": lambda k, o: k(o.a, o.kernel, o.x.shape, **_SAME),
    "conv2d_backward_weights": lambda k, o: k(o.a, o.b, o.kernel.shape, **_SAME),
    "conv2d_forward": lambda k, o: k(o.a, o.kernel, bias=o.channels[0], with_channel_range=True),
    "conv3d_backward_data": lambda k, o: k(
        _volume(o.a), _volume_kernel(o.kernel), _volume(o.x).shape, **_SAME
    ),
    "conv3d_backward_weights": lambda k, o: k(
        _volume(o.a), _volume(o.b), _volume_kernel(o.kernel).shape, **_SAME
    ),
    "conv3d_forward": lambda k, o: k(
        _volume(o.a), _volume_kernel(o.kernel), bias=o.channels[0], **_SAME
    ),
    "crop": lambda k, o: k(o.xq, ((1, 0), (2, 1))),
    "depthwise_conv2d_backward_data": lambda k, o: k(
        kernels.concatenate([o.a, o.b]), o.taps, o.x.shape, **_SAME
    ),
    "depthwise_conv2d_backward_weights": lambda k, o: k(o.a, o.b, (3, 3, 20, 1), **_SAME),
    "depthwise_conv2d_forward": lambda k, o: k(o.a, o.taps, bias=np.tile(o.channels[0], 2)),
    "einsum": lambda k, o: k("bhwc,bhvc->bhwv", o.a, o.b),
    "global_average_pool": lambda k, o: k(o.xq),
    "global_average_pool_backward": lambda k, o: k(o.one_pixel, o.x.shape),
    "global_max_pool": lambda k, o: k(o.xq),
    "global_max_pool_backward": lambda k, o: k(o.one_pixel, o.xq, kernels.global_max_pool(o.xq)),
    "group_norm_backward": lambda k, o: k(
        o.dyq, o.xq, *kernels.group_norm_forward(o.xq, 4)[1:], o.channels[0]
    ),
    "group_norm_forward": lambda k, o: [k(x, 4, *o.channels[:2]) for x in (o.x, o.xq)],
    "layer_norm_backward": lambda k, o: k(
        o.dyq, o.xq, kernels.layer_norm_forward(o.xq)[1], o.channels[0]
    ),
    "layer_norm_forward": lambda k, o: [
        k(o.x, *o.channels[:2], 2.0**o.scale / 3),
        k(o.xq, epsilon=4.0**o.scale / 3),
    ],
    "matmul": lambda k, o: [
        k(o.matrix, o.matrix, bias=o.channels[0]),
        # No products: only NumPy's arithmetic is left.
        k(o.matrix, DFPTensor(0 * o.matrix.data, 0), bias=o.channels[0]),
    ],
    "max_pool": lambda k, o: k(o.xq, 3, 2, "same"),
    "max_pool3d": lambda k, o: k(_volume(o.xq), 2, 1, "same"),
    "max_pool3d_backward": lambda k, o: k(
        _volume(o.dyq), _volume(o.xq), kernels.max_pool3d(_volume(o.xq), 2, 1, "same"), 2, 1, "same"
    ),
    "max_pool_backward": lambda k, o: k(
        o.pooled, o.xq, kernels.max_pool(o.xq, 3, 2, "same"), 3, 2, "same"
    ),
    "multiply": lambda k, o: [k(o.a, o.b), k(o.a, o.factors)],
    "split": lambda k, o: k(o.xq, (3, 17)),
    "maximum": lambda k, o: k(o.x, o.dyq),
    "maximum_backward": lambda k, o: k(o.dy, o.x, o.dyq),
    "minimum": lambda k, o: k(o.x, o.dyq),
    "minimum_backward": lambda k, o: k(o.dyq, o.x, o.dyq),
    "prelu_backward": lambda k, o: k(o.dy, o.x, o.channels[0].reshape(1, 1, 20)),
    "prelu_forward": lambda k, o: k(o.x, o.channels[0].reshape(1, 1, 20)),
    "sum_channels": lambda k, o: k(o.xq),
    "sum_pool": lambda k, o: k(o.xq, 2),
    "upsample": lambda k, o: k(o.xq, 2),
    "weighted_sum": lambda k, o: k([o.x, o.dyq, o.dy], [1 / 3, -1.0, 0.5]),
    "sum_products": lambda k, o: [k(o.a, o.b, (2, 1, 1, 20)), k(o.a, o.b, (2, 1, 1, 1))],
    "sum_gradients": lambda k, o: k([o.x, o.dyq, o.dy], o.xq, "relu"),
    "zero_pad": lambda k, o: k(o.xq, ((1, 0), (2, 1))),
    "quantize": lambda k, o: [k(o.x, 9, rounding, 7) for rounding in ROUNDINGS],
    "dequantize": lambda k, o: k(o.xq),
    "arithmetic": lambda k, o: k(o),
}

OTHERS = {"quantize": quantize, "dequantize": DFPTensor.dequantize, "arithmetic": _arithmetic}
NO_ARITHMETIC = {"available_isas", "get_isa", "info", "matmul_int8", "set_isa"}  # in FP32


def _bits(result):
    if isinstance(result, np.ndarray):
        return result.tobytes()
    if isinstance(result, DFPTensor):
        return result.data.tobytes(), result.exponent, result.max_abs
    return None if result is None else [_bits(part) for part in result]


@pytest.fixture(scope="module")
def operands():
    return [Operands(scale) for scale in SCALES]


def test_every_kernel_is_called():
    assert set(CALLS) == set(kernels.__all__) - NO_ARITHMETIC | set(OTHERS)


@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_gives_the_same_bits_in_every_mode(name, operands, on_every_isa):
    kernel = OTHERS.get(name) or getattr(kernels, name)

    def run():
        return [_bits(CALLS[name](kernel, o)) for o in operands]

    expected = on_every_isa(run)
    for mode in MODES:
        with float_mode(mode):
            in_force, results, left = mode_in_force(), on_every_isa(run), mode_in_force()
        assert (in_force, left) == (mode, mode)
        assert results == expected, mode
    assert mode_in_force() == "default"


@pytest.mark.parametrize("name", [n for n in CALLS if n not in OTHERS])
def test_documentation_survives(name):
    """Where a decorator sets the mode, `help` still shows the kernel."""
    kernel = getattr(kernels, name)
    assert kernel.__name__ == name
    assert "Returns:" in kernel.__doc__
    assert "kwargs" not in inspect.signature(kernel).parameters


def test_arithmetic_of_numpy_in_threads_of_tensorflow():
    """They flush subnormal numbers to zero."""
    x = np.float32([1e-40, 3e-39])
    compute = tf.function(lambda x: call(lambda x: [x / 3, _mode()], [x], [tf.float32, tf.string]))
    expected = (x / np.float32(3)).tobytes()
    for _ in range(20):
        result, mode = compute(tf.constant(x))
        assert (result.numpy().tobytes(), mode.numpy()) == (expected, b"default")


def test_eager_calls_do_not_inherit_the_mode():
    for mode in MODES:
        with float_mode(mode):
            (in_force,) = call(lambda x: [_mode()], [tf.zeros(1)], [tf.string])
        assert in_force.numpy() == b"default"


def _mode():
    return np.array(mode_in_force().encode())

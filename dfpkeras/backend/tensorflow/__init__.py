"""TensorFlow as a backend: eager execution and graphs."""

import tensorflow as tf

from dfpkeras.backend.base import Backend
from dfpkeras.backend.tensorflow import float32_operations, gradients, kernel_calls, tracing


class TensorFlowBackend(Backend):
    """See `Backend`; what takes more than a line of TensorFlow is in the modules of this folder."""

    int16, int32, float32 = tf.int16, tf.int32, tf.float32
    float32_operations = float32_operations
    overwrites_variables = False

    call = staticmethod(kernel_calls.call)

    differentiable = staticmethod(gradients.differentiable)
    float32_gradient = staticmethod(gradients.float32_gradient)
    summands = staticmethod(gradients.summands)

    is_lazy = staticmethod(tracing.is_lazy)
    is_in_scope = staticmethod(tracing.is_in_scope)
    in_scope = staticmethod(tracing.in_scope)
    refusal = staticmethod(tracing.refusal)
    wants_float32 = staticmethod(tracing.wants_float32)
    is_in_loop = staticmethod(tracing.is_in_loop)
    as_written = staticmethod(tracing.as_written)

    as_tensor = staticmethod(tf.convert_to_tensor)
    sizes = staticmethod(tf.shape)
    reshape = staticmethod(tf.reshape)
    transpose = staticmethod(tf.transpose)
    expand_dims = staticmethod(tf.expand_dims)
    squeeze = staticmethod(tf.squeeze)
    stack = staticmethod(tf.stack)
    select = staticmethod(tf.cond)
    zeros = staticmethod(tf.zeros)
    broadcast_to = staticmethod(tf.broadcast_to)

    @staticmethod
    def install():
        tracing.install()
        kernel_calls.install()

    @staticmethod
    def uninstall():
        tracing.uninstall()
        kernel_calls.uninstall()

    @staticmethod
    def attach(x, name, value):
        setattr(x, name, value)

    @staticmethod
    def attached(x, name):
        return getattr(x, name, None)

    @staticmethod
    def with_shape(x, shape):
        x.set_shape(shape)
        return x

    @staticmethod
    def unsupported(x):
        if not isinstance(x, tf.Tensor):
            return f"its input was a {type(x).__name__}, the kernels take dense tensors"
        if x.dtype != tf.float32:
            return f"its input was {x.dtype.name}, the kernels take float32"
        return None

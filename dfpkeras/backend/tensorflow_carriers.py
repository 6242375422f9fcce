"""Quantised tensors inside TensorFlow, and how kernels are called on them.

A carrier is INT16 data and an int32 pair (shared exponent, largest magnitude), hung as an attribute
on the float32 tensor that it stands for: the one it was quantised from, or the one that was
dequantised from it. A tensor that several operations consume is quantised once.
"""

import functools
import threading
import typing

import numpy as np
import tensorflow as tf

from dfpkeras import _native
from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_contexts import KERNEL_NAME
from dfpkeras.kernels import elementwise
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.roles import GRADIENT, quantized, rounded

_ATTRIBUTE = "_dfp_carrier"

_this_thread = threading.local()


class Carrier(typing.NamedTuple):
    """A quantised tensor inside TensorFlow.

    Attributes:
        data: int16 tensor, in the layout of the float tensor it stands for.
        meta: int32 tensor of shape (2,): shared exponent, largest magnitude in `data`.
        format: `Role.format` that it was quantised to.
        channel_sums: float32 tensor (channels,), the sums of a gradient over all pixels if the
            operation that made it knows them; or None.
    """

    data: tf.Tensor
    meta: tf.Tensor
    format: tuple
    channel_sums: tf.Tensor | None = None


def carrier_of(x, role):
    """Returns the carrier of float32 tensor `x`, made now or found on it."""
    found = find_carrier(x, role)
    if found is not None:
        return found
    carrier = sum_gradients(x) if role is GRADIENT and is_sum(x) else _quantized(x, role)
    if is_local(x):
        attach(x, carrier)
    return carrier


def _quantized(x, role):
    data, meta = call(functools.partial(_quantize, role), [x], [tf.int16, tf.int32])
    return make_carrier(data, meta, x.shape, role)


def is_sum(dy):
    """Whether TensorFlow made a gradient by adding those of several consumers.

    It can be added from its parts, without one pass for each over FP32. In graphs only, where
    nothing computes a sum that nobody reads.
    """
    return not tf.executing_eagerly() and is_local(dy) and dy.op.type == "AddN"


def sum_gradients(dy, y=None, activation=None):
    """Returns the carrier of a gradient where an activation let the tensor through.

    Args:
        dy: float32 tensor; if TensorFlow added it up, its parts are added here.
        y: `Carrier` of the activation's result, or None.
        activation: None, "relu" or "relu6".
    """
    parts = list(dy.op.inputs) if is_sum(dy) else [dy]
    carriers = [find_carrier(part, GRADIENT) for part in parts]
    inputs = [] if y is None else [y.data, y.meta]
    for part, carrier in zip(parts, carriers, strict=True):
        inputs += [part] if carrier is None else [carrier.data, carrier.meta]
    kernel = functools.partial(_sum_gradients, activation, [c is not None for c in carriers])
    data, meta = call(kernel, inputs, [tf.int16, tf.int32])
    return make_carrier(data, meta, dy.shape, GRADIENT)


def find_carrier(x, role):
    """Returns the carrier that float32 tensor `x` has in the format of a role here, or None."""
    found = getattr(x, _ATTRIBUTE, None)
    usable = found is not None and found.format == role.format and is_local(found.data)
    return found if usable else None


def make_carrier(data, meta, shape, role):
    """Returns the carrier of what a kernel returned."""
    return Carrier(set_shape(data, shape), set_shape(meta, [2]), role.format)


def dequantized(carrier):
    """Returns the float32 value of a carrier; a graph computes it only if it is read."""
    x = call(_dequantize, [carrier.data, carrier.meta], [tf.float32])[0]
    return set_shape(x, carrier.data.shape)


def attach(x, carrier):
    """Hangs a carrier on the float32 tensor it stands for, which it returns."""
    setattr(x, _ATTRIBUTE, carrier)
    return x


def local(x):
    """Returns `x` as a tensor of the graph that is being traced now.

    The gradient of a branch or a loop body may use tensors of that body, but not the tensors of
    the graph around it that the body took in.
    """
    x = tf.convert_to_tensor(x)
    return x if is_local(x) else tf.identity(x)


def local_or_none(x):
    return None if x is None else local(x)


def is_local(tensor):
    """Whether `tensor` belongs to the context that runs now.

    A carrier made inside a loop body or a branch, for a tensor of the graph around it, is out of
    scope everywhere else. So carriers are kept on tensors of the current graph only. An eager
    tensor, such as a constant, belongs to no graph.
    """
    if tf.executing_eagerly():
        return True
    graph = tf.compat.v1.get_default_graph()
    return tf.is_symbolic_tensor(tensor) and tensor.graph is graph


def set_shape(tensor, shape):
    """Tells TensorFlow a shape, and returns the tensor."""
    tensor.set_shape(shape)
    return tensor


def call(function, inputs, dtypes):
    """Runs `function` on NumPy views of `inputs`, now or as a stateless graph operation.

    Stateless, so that results nobody needs are pruned and independent calls run at once. The
    arrays may alias variables: `function` must not write to them. It computes in the default
    floating-point environment; TensorFlow's threads flush subnormal numbers to zero. Returned
    arrays are taken over without a copy in graphs if 64-byte aligned.
    """
    if tf.executing_eagerly():
        # A memoryview is free of the copy that `tf.numpy_function` makes of eager inputs.
        arrays = (np.asarray(memoryview(x)) for x in inputs)
        results = _native.call_in_default_float_environment(function, *arrays)
        return [tf.convert_to_tensor(result) for result in results]
    function = functools.partial(_run, function)
    return tf.numpy_function(function, inputs, dtypes, stateful=False, name=KERNEL_NAME)


def _run(function, *arrays):
    """Calls `function`, on a thread of TensorFlow that from now on keeps its Python state.

    Making one for each of its 107 calls took a tenth of a prediction of ResNet-50 at batch 1
    (27.5 against 24.5 ms, AVX-512).
    """
    if not hasattr(_this_thread, "keeps_state"):
        _native.keep_thread_state()
        _this_thread.keeps_state = True
    return _native.call_in_default_float_environment(function, *arrays)


def call_by_name(function, operands, dtypes):
    """Like `call`, for a dict of inputs that become the arguments of these names."""
    function = functools.partial(_by_name, function, tuple(operands))
    return call(function, list(operands.values()), dtypes)


def _by_name(function, names, *arrays):
    return function(**dict(zip(names, arrays, strict=True)))


def unpack(data, meta):
    """Returns the `DFPTensor` of a carrier's arrays."""
    return DFPTensor._wrap(data, int(meta[0]), int(meta[1]))


def pack(tensor):
    """Returns a carrier's arrays of a `DFPTensor`."""
    return [tensor.data, np.array([tensor.exponent, tensor.max_abs], np.int32)]


def _quantize(role, x):
    hits.add(f"quantize_{role.name}")
    return pack(quantized(x, role))


def _sum_gradients(activation, is_integer, *arrays):
    hits.add("sum_gradients" if activation is None else "activation_backward")
    arrays = iter(arrays)
    y = None if activation is None else unpack(next(arrays), next(arrays))
    gradients = [unpack(next(arrays), next(arrays)) if i else next(arrays) for i in is_integer]
    total = elementwise.sum_gradients(gradients, y, activation, GRADIENT.written_bits)
    is_kept = len(is_integer) == 1 and is_integer[0]
    return pack(total if is_kept else rounded(total, GRADIENT))


def _dequantize(data, meta):
    hits.add("dequantize")
    return [unpack(data, meta).dequantize()]

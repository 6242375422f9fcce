"""Which Keras layer runs on which integer operation.

``install()`` (called by ``import dfpkeras``) wraps the methods in which Keras' own layers compute
their products. A layer of the policy "dfp16" then runs the integer operation, any other layer
what Keras wrote; subclasses that call ``super().call()`` or ``super().convolution_op()`` are
served as well, and saved models keep naming Keras' classes.
"""

import functools
import math
import typing
import weakref

import keras
from keras import ops
from keras.src.backend.common import global_state
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.pooling.base_pooling import BasePooling

from dfpkeras import backend
from dfpkeras.backend.float32 import float32_only
from dfpkeras.kernels.pooling import MOST_WINDOW_PIXELS
from dfpkeras.policy import DFP16Policy, policy_of


class Decision(typing.NamedTuple):
    """Where a layer computes.

    Attributes:
        integer: bool, True if its products run on the integer kernels.
        reason: str, why; one phrase.
    """

    integer: bool
    reason: str


_ACTIVATIONS = ((keras.activations.relu, "relu"), (keras.activations.relu6, "relu6"))

_last_call = weakref.WeakKeyDictionary()
_products = []
_followers = []


def decide(layer):
    """Says whether the products of a Keras layer run on integers.

    Args:
        layer: `keras.Layer`, built or not.

    Returns:
        `Decision` from what is known without calling the layer.
    """
    policy = policy_of(layer)
    if not isinstance(policy, DFP16Policy):
        return Decision(False, f"its dtype policy is {policy.name!r}")
    if _product(layer) is None:
        return Decision(False, _why_no_product(layer))
    if getattr(layer, "lora_enabled", False):
        return Decision(False, "LoRA is enabled: its weights are meant to stay float32")
    return Decision(True, _product(layer))


def observe(layer):
    """Like `decide`, but takes into account what the latest call of the layer did.

    A call may have met inputs the kernels do not take; and of a layer that overrides Keras' own
    computation only a call can tell whether it still reaches it.
    """
    decision, latest = decide(layer), _last_call.get(layer)
    if _follows(layer):
        return latest or Decision(False, "it goes with its input, and was not called so far")
    if not decision.integer:
        return decision
    if latest is not None and not latest.integer:
        return latest
    if _overrides_keras(layer):
        if latest is None:
            return Decision(False, "it overrides Keras' computation and has not called it so far")
        return Decision(True, f"{latest.reason}, where it calls Keras' own")
    return decision


def routed_classes():
    """Returns the tuple of Keras' classes that `install` has wrapped."""
    return (*_products, *_followers)


def install():
    """Wraps Keras' classes. Calling it again, or on another backend, changes nothing."""
    if keras.backend.backend() != "tensorflow" or hasattr(keras.layers.Dense.call, "_dfpkeras"):
        return
    _route(BaseConv, "convolution_op", _convolution_op)
    _route(BaseConv, "call", _convolution_call, applies=_keeps_convolution_op)
    _route(keras.layers.Conv1D, "call", _conv1d_call)
    _route(BaseDepthwiseConv, "call", _depthwise_call)
    _route(BaseSeparableConv, "call", _separable_call)
    _route(keras.layers.Dense, "call", _dense_call)
    _route(keras.layers.BatchNormalization, "call", _batch_norm_call)
    _follow(keras.layers.ReLU, "call", _relu_call)
    _follow(keras.layers.Activation, "call", _activation_call)
    _follow(keras.layers.Add, "_merge_function", _add_call)
    _follow_arrangements()
    _keep_out_of_xla()
    _export_in_float32()
    backend.operations().install()


def _follow_arrangements():
    """Routes the layers that pool or move numbers."""
    layers = keras.layers
    _follow(BasePooling, "call", _pooling_call)
    for cls in (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D):
        _follow(cls, "call", _global_average_call)
    for cls in (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D):
        _follow(cls, "call", _global_max_call)
    _follow(layers.Concatenate, "_merge_function", _concatenate_call)
    for cls in (layers.ZeroPadding1D, layers.ZeroPadding2D):
        _follow(cls, "call", _zero_padding_call)
    for cls in (layers.Cropping1D, layers.Cropping2D):
        _follow(cls, "call", _cropping_call)
    _follow(layers.Flatten, "call", _flatten_call)
    _follow(layers.Reshape, "call", _reshape_call)


def _product(layer):
    if isinstance(layer, keras.layers.Dense):
        return "matrix product"
    if isinstance(layer, BaseConv) and layer.rank in (1, 2):
        return f"{layer.rank}-D convolution"
    if isinstance(layer, BaseDepthwiseConv):
        return f"{layer.rank}-D depthwise convolution"
    if isinstance(layer, BaseSeparableConv):
        return f"{layer.rank}-D depthwise convolution, then a pointwise one"
    if _is_plain_batch_norm(layer):
        return "batch normalisation"
    return None


def _follows(layer):
    return isinstance(policy_of(layer), DFP16Policy) and isinstance(layer, tuple(_followers))


def _is_plain_batch_norm(layer):
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and not getattr(layer, "renorm", False)  # since Keras 3.14
        and not layer.synchronized
    )


def _overrides_keras(layer):
    cls = type(layer)
    for routed in (
        keras.layers.Dense,
        keras.layers.Conv1D,
        keras.layers.BatchNormalization,
        BaseDepthwiseConv,
        BaseSeparableConv,
    ):
        if isinstance(layer, routed):
            return cls.call is not routed.call
    return cls.call is not BaseConv.call or cls.convolution_op is not BaseConv.convolution_op


def _why_no_product(layer):
    if layer._layers:
        return "its inner layers are listed by themselves, what it adds is float32"
    name = type(layer).__name__
    if not layer.weights:
        return f"{name} holds no weights, no integer path"
    return f"{name} has no integer path yet"


def _keeps_convolution_op(layer):
    return type(layer).convolution_op is BaseConv.convolution_op


def _route(cls, method, integer_method, applies=lambda layer: True):
    original = getattr(cls, method)
    _products.append(cls)

    @functools.wraps(original)
    def routed(self, inputs, *args, **kwargs):
        decision = decide(self)
        if decision.integer and applies(self) and _computes_values(inputs):
            operations = backend.operations()
            why_not = operations.refusal() or operations.unsupported(inputs)
            decision = Decision(False, why_not) if why_not else decision
            _last_call[self] = decision
            if decision.integer:
                result = integer_method(self, inputs, *args, **kwargs)
                if result is not NotImplemented:
                    return result
                _last_call[self] = Decision(False, "its latest call has no integer path")
        return original(self, inputs, *args, **kwargs)

    routed._dfpkeras = True
    setattr(cls, method, routed)


def _follow(cls, method, integer_method):
    """Has a layer without weights run on integers if its input carries any, or knows how it was
    made; `integer_method` returns None if not."""
    original = getattr(cls, method)
    _followers.append(cls)

    @functools.wraps(original)
    def followed(self, inputs, *args, **kwargs):
        if _follows(self) and _computes_values(inputs):
            why_not = backend.operations().refusal()
            result = None if why_not else integer_method(self, inputs, *args, **kwargs)
            if result is not None:
                _last_call[self] = Decision(True, "integers in, integers out")
                return result
            why_not = why_not or "its latest call found no integers to go on with"
            _last_call[self] = Decision(False, why_not)
        return original(self, inputs, *args, **kwargs)

    setattr(cls, method, followed)


def _computes_values(inputs):
    """Whether a call is neither for shapes alone nor for a graph to be saved."""
    return not any_symbolic_tensors((inputs,)) and not backend.operations().wants_float32()


def _convolution_op(layer, inputs, kernel, padding=None, bias=None):
    return backend.operations().convolution(
        inputs,
        kernel,
        strides=layer.strides,
        padding=padding or layer.padding,
        dilation_rate=layer.dilation_rate,
        groups=layer.groups,
        data_format=layer.data_format,
        bias=bias,
        training=_training(),
    )


def _convolution_call(layer, inputs, padding=None):
    bias = layer.bias if layer.use_bias else None
    outputs = _convolution_op(layer, inputs, layer.kernel, padding, bias)
    return _activated(layer, outputs)


def _conv1d_call(layer, inputs):
    if layer.padding != "causal":
        return _convolution_call(layer, inputs)
    inputs = ops.pad(inputs, layer._compute_causal_padding())
    return _convolution_call(layer, inputs, padding="valid")


def _depthwise_call(layer, inputs):
    bias = layer.bias if layer.use_bias else None
    outputs = _depthwise_op(layer, inputs, layer.kernel, bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _depthwise_op(layer, inputs, kernel, bias=None):
    return backend.operations().depthwise_convolution(
        inputs,
        kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
        bias=bias,
        training=_training(),
    )


def _separable_call(layer, inputs):
    one = (1,) * layer.rank
    outputs = backend.operations().convolution(
        _depthwise_op(layer, inputs, layer.depthwise_kernel),
        layer.pointwise_kernel,
        strides=one,
        padding="valid",
        dilation_rate=one,
        groups=1,
        data_format=layer.data_format,
        bias=layer.bias if layer.use_bias else None,
        training=_training(),
    )
    return outputs if layer.activation is None else layer.activation(outputs)


def _dense_call(layer, inputs, training=None):
    outputs = backend.operations().matmul(inputs, layer.kernel, layer.bias, _training())
    return _activated(layer, outputs)


def _training():
    """The argument `training` of the call that runs now, which a layer need not take itself."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.get_value("training")


def _batch_norm_call(layer, inputs, training=None, mask=None):
    if mask is not None or not isinstance(training, bool | None):
        return NotImplemented
    if layer.axis in (-1, len(inputs.shape) - 1):
        return _normalize(layer, inputs, training)
    axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
    axes.append(layer.axis % len(inputs.shape))
    outputs = _normalize(layer, _transpose(inputs, axes), training)
    return _transpose(outputs, [axes.index(axis) for axis in range(len(axes))])


def _transpose(x, axes):
    """With the integers that `x` carries, if any."""
    moved = backend.operations().transpose(x, axes)
    return ops.transpose(x, axes) if moved is None else moved


def _normalize(layer, inputs, training):
    training = bool(training and layer.trainable)
    outputs, mean, variance = backend.operations().batch_norm(
        inputs,
        layer.gamma if layer.scale else None,
        layer.beta if layer.center else None,
        layer.moving_mean,
        layer.moving_variance,
        layer.epsilon,
        training,
    )
    if training:
        for moving, latest in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + latest * (1.0 - layer.momentum))
    return outputs


def _relu_call(layer, inputs):
    slope, threshold = layer.negative_slope, layer.threshold
    activation = {None: "relu", 6: "relu6"}.get(layer.max_value)
    if slope or threshold or activation is None or backend.operations().unsupported(inputs):
        return None
    return backend.operations().activate(inputs, activation)


def _activation_call(layer, inputs):
    if _integer_activation(layer) is None or backend.operations().unsupported(inputs):
        return None
    return _activated(layer, inputs)


def _activated(layer, outputs):
    activation = _integer_activation(layer)
    if activation is not None:
        return backend.operations().activate(outputs, activation)
    return outputs if layer.activation is None else layer.activation(outputs)


def _integer_activation(layer):
    """By identity: a user's own activation may be an object that cannot be hashed or compared."""
    return next((name for f, name in _ACTIVATIONS if layer.activation is f), None)


def _add_call(layer, inputs):
    return backend.operations().add(*inputs) if len(inputs) == 2 else None


def _pooling_call(layer, inputs):
    padding = layer.padding.lower()
    few_pixels = math.prod(layer.pool_size) <= MOST_WINDOW_PIXELS
    if len(layer.pool_size) > 2 or not few_pixels or min(layer.strides) < 1:
        return None
    sizes = _spatial_sizes(layer, inputs)
    pairs = zip(sizes, layer.pool_size, strict=True)
    if padding == "valid" and any(size is not None and size < window for size, window in pairs):
        return None  # an error or an empty result, as Keras' version has it
    operations = backend.operations()
    pool = operations.max_pool if layer.pool_mode == "max" else operations.average_pool
    return pool(inputs, layer.pool_size, layer.strides, padding, layer.data_format)


def _global_average_call(layer, inputs, mask=None):
    if mask is not None:
        return None
    return backend.operations().global_average_pool(inputs, layer.data_format, layer.keepdims)


def _global_max_call(layer, inputs):
    sizes = _spatial_sizes(layer, inputs)
    if None in sizes or math.prod(sizes) > MOST_WINDOW_PIXELS:
        return None
    return backend.operations().global_max_pool(inputs, layer.data_format, layer.keepdims)


def _spatial_sizes(layer, inputs):
    return inputs.shape[1:-1] if layer.data_format == "channels_last" else inputs.shape[2:]


def _concatenate_call(layer, inputs):
    return backend.operations().concatenate(inputs, layer.axis)


def _zero_padding_call(layer, inputs):
    padding = _spatial_pairs(layer.padding)
    return backend.operations().zero_pad(inputs, padding, layer.data_format)


def _cropping_call(layer, inputs):
    """Cropping1D knows no data format, and is channels-last."""
    data_format = getattr(layer, "data_format", "channels_last")
    cropping, first = _spatial_pairs(layer.cropping), 2 if data_format == "channels_first" else 1
    sizes = inputs.shape[first : first + len(cropping)]
    if any(size is None or sum(pair) >= size for size, pair in zip(sizes, cropping, strict=True)):
        return None  # Keras' own error, where the sizes are known
    return backend.operations().crop(inputs, cropping, data_format)


def _spatial_pairs(borders):
    """((before, behind), ...) for each spatial dimension."""
    return borders if isinstance(borders[0], tuple) else (borders,)


def _flatten_call(layer, inputs):
    operations, rank = backend.operations(), len(inputs.shape)
    if layer.data_format == "channels_first" and rank > 2:
        inputs = operations.transpose(inputs, (0, *range(2, rank), 1))
    if inputs is None or rank < 2:
        return None
    shape = tuple(inputs.shape)[1:]
    return operations.reshape(inputs, (-1 if None in shape else math.prod(shape),))


def _reshape_call(layer, inputs):
    shape = layer.compute_output_shape(tuple(inputs.shape))[1:]
    return backend.operations().reshape(inputs, [-1 if size is None else size for size in shape])


def _calls_kernels(layer):
    return decide(layer).integer or _follows(layer)


def _keep_out_of_xla():
    """Has Keras turn `jit_compile=True` off, with its own warning: XLA knows no callbacks."""
    from keras.src.trainers import trainer

    original = trainer.model_supports_jit

    @functools.wraps(original)
    def model_supports_jit(model):
        return original(model) and not any(map(_calls_kernels, model._flatten_layers()))

    trainer.model_supports_jit = model_supports_jit


def _export_in_float32():
    """Has `model.export`, to any format, trace TensorFlow's own float32 operations."""
    original = keras.Model.export

    @functools.wraps(original)
    def export(*args, **kwargs):
        with float32_only():
            return original(*args, **kwargs)

    keras.Model.export = export

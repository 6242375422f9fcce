"""Everything that uses Keras beyond its public interface: no other module imports that.

`install` wraps functions of Keras. It checks their parameters, so that a version of Keras that
changed one of them is refused with a clear message instead of failing during training.
"""

import sys

import keras
from keras.src.applications.convnext import LayerScale
from keras.src.backend.common import global_state
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.dtype_policies.dtype_policy import DTypePolicy, FloatDTypePolicy
from keras.src.dtype_policies.dtype_policy_map import DTypePolicyMap
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.merging.base_merge import Merge
from keras.src.layers.pooling.base_pooling import BasePooling
from keras.src.layers.regularization.spatial_dropout import BaseSpatialDropout
from keras.src.models.functional import Functional
from keras.src.ops.numpy import Add
from keras.src.trainers import trainer

from dfpkeras.runtime.wrapping import Wrappers

__all__ = [
    "Add",
    "BaseConv",
    "BaseConvTranspose",
    "BaseDepthwiseConv",
    "BasePooling",
    "BaseSeparableConv",
    "BaseSpatialDropout",
    "DTypePolicy",
    "DTypePolicyMap",
    "FloatDTypePolicy",
    "Functional",
    "LayerScale",
    "Merge",
    "has_mask",
    "inner_layers",
    "install",
    "is_symbolic",
    "is_wrapped",
    "operations_of",
    "training_of_current_call",
    "uninstall",
    "wrap_layer",
]

_wrappers = Wrappers()


def is_symbolic(inputs):
    """Whether a layer is called only to infer shapes."""
    return any_symbolic_tensors((inputs,))


def has_mask(inputs):
    """Whether Keras attached a mask to one of several tensors."""
    return any(getattr(x, "_keras_mask", None) is not None for x in inputs)


def training_of_current_call():
    """The argument `training` of the running call, which a layer need not take itself."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.get_value("training")


def inner_layers(layer, recursive=False):
    """The layers that a layer holds, itself excepted unless `recursive`; none in an operation."""
    if not isinstance(layer, keras.Layer):
        return []
    return layer._flatten_layers(include_self=recursive, recursive=recursive)


def operations_of(layer):
    """The operations of a functional model that are no layers, such as those of ``a + b``."""
    operations = layer.operations if isinstance(layer, Functional) else ()
    return [operation for operation in operations if not isinstance(operation, keras.Layer)]


def wrap_layer(cls, method, wrapper, inputs):
    """Has ``wrapper(original, layer, *inputs, ...)`` run instead of a method of a layer's, or
    operation's, class, whose first parameters have the names in `inputs`."""

    def by_position(original, layer, *args, **kwargs):
        named = (kwargs.pop(name) for name in inputs[len(args) :])
        return wrapper(original, layer, *args, *named, **kwargs)

    _wrappers.wrap(cls, method, by_position, parameters=("self", *inputs))


def is_wrapped(layer, method):
    """Whether a layer's own class still has the method that `wrap_layer` put there."""
    return _wrappers.made(getattr(type(layer), method))


def install(parse_name, after_init, after_call, jit_is_supported, export, after_clear_session):
    """Wraps what is not a method of a layer; calling it again changes nothing.

    Args:
        parse_name: wrapper of `DTypePolicy._parse_name`.
        after_init: function of a policy that was just created, and its constructor's arguments.
        after_call: function of a layer that was just called, and its results.
        jit_is_supported: wrapper of the function that says whether XLA can compile a model.
        export: wrapper of `keras.Model.export`.
        after_clear_session: function without arguments.
    """

    def init(original, policy, *args, **kwargs):
        original(policy, *args, **kwargs)
        after_init(policy, *args, **kwargs)

    def call(original, layer, *args, **kwargs):
        outputs = original(layer, *args, **kwargs)
        after_call(layer, outputs)
        return outputs

    def clear_session(original, *args, **kwargs):
        original(*args, **kwargs)
        after_clear_session()

    _wrappers.wrap(DTypePolicy, "_parse_name", parse_name, parameters=("self", "name"))
    _wrappers.wrap(DTypePolicy, "__init__", init, parameters=("self",))
    _wrappers.wrap(keras.Layer, "__call__", call, parameters=("self",))
    _wrappers.wrap(trainer, "model_supports_jit", jit_is_supported, parameters=("model",))
    _wrappers.wrap(keras.Model, "export", export, parameters=("self", "filepath"))
    _wrap_everywhere("clear_session", global_state, clear_session)


def uninstall():
    """Undoes `install` and `wrap_layer`."""
    _wrappers.undo()


def _wrap_everywhere(name, home, wrapper):
    """Wraps a function under each of its names in Keras' modules."""
    original = getattr(home, name)
    modules = [m for key, m in list(sys.modules.items()) if key.split(".")[0] == "keras"]
    for module in modules:
        if vars(module).get(name) is original:
            _wrappers.wrap(module, name, wrapper, parameters=())

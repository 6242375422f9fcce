"""Kinds of layers, and which of them an operation of TensorFlow or a kernel belongs to."""

import re

import keras
from keras import layers
from keras.src.layers.merging.base_merge import Merge

#: Kinds of layers, in the order of tables and charts.
KINDS = (
    "convolution",
    "batch norm",
    "activation",
    "pooling",
    "add, concatenate",
    "dense",
    "conversion",
    "optimizer",
    "other",
)
#: Time in which no operation runs.
BETWEEN = "between operations"

_CONVOLUTION, _BATCH_NORM, _ACTIVATION, _POOLING, _MERGE, _DENSE = KINDS[:6]
_CONVERSION, _OPTIMIZER, _OTHER = KINDS[6:]

# The first match counts: parts of the names in `KernelHits`.
_KERNELS = (
    ("quantize", _CONVERSION),
    ("conv", _CONVOLUTION),
    ("depthwise", _CONVOLUTION),
    ("bias_gradient", _CONVOLUTION),
    ("dense", _DENSE),
    ("batch_norm", _BATCH_NORM),
    ("activation", _ACTIVATION),
    ("relu", _ACTIVATION),
    ("pool", _POOLING),
    ("concat", _MERGE),
    ("split", _MERGE),
    ("add", _MERGE),
    ("sum", _MERGE),
)
# The first match counts: parts of the types of TensorFlow's operations that tell by themselves what
# they are. An operation that TensorFlow fused (convolution, bias, ReLU) counts as its first part.
_OPERATIONS = (
    ("Conv2D", _CONVOLUTION),
    ("DepthwiseConv", _CONVOLUTION),
    ("FusedBatchNorm", _BATCH_NORM),
    ("MaxPool", _POOLING),
    ("AvgPool", _POOLING),
    ("Relu", _ACTIVATION),
    ("MatMul", _DENSE),
    ("Concat", _MERGE),
    ("AddN", _MERGE),
)
_LAYERS = (
    (layers.Dense, _DENSE),
    (layers.BatchNormalization, _BATCH_NORM),
    (layers.Activation, _ACTIVATION),
    (layers.ReLU, _ACTIVATION),
    (layers.Softmax, _ACTIVATION),
)


def kinds_of_layers(model):
    """A dict from the name of each layer, those of nested models included, to its kind."""
    found = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    kinds = {layer.name: _kind_of_layer(layer) for layer in found}
    return kinds | {model.optimizer.name: _OPTIMIZER}


def kind_of_operation(name, operation, layer_kinds):
    """The kind of an operation.

    Args:
        name: of the operation, its scopes in front: "gradient_tape/model/conv1_1/Conv2D".
        operation: its type, such as "Conv2D".
        layer_kinds: see `kinds_of_layers`.

    Returns:
        One of `KINDS`.
    """
    found = [kind for scope in name.split("/")[:-1] if (kind := _lookup(scope, layer_kinds))]
    if _OPTIMIZER in found:
        return _OPTIMIZER
    return _first_match(operation, _OPERATIONS) or (found[-1] if found else _OTHER)


def kind_of_kernel(name):
    """The kind of a kernel of this package, by the name that `KernelHits` counts it by."""
    return _first_match(name, _KERNELS) or _OTHER


def _kind_of_layer(layer):
    class_name = type(layer).__name__
    if "Conv" in class_name:
        return _CONVOLUTION
    if "Pooling" in class_name:
        return _POOLING
    if isinstance(layer, Merge):
        return _MERGE
    return next((kind for kinds, kind in _LAYERS if isinstance(layer, kinds)), _OTHER)


def _lookup(scope, layer_kinds):
    # TensorFlow makes scopes unique by a number behind the name.
    return layer_kinds.get(scope) or layer_kinds.get(re.sub(r"_\d+$", "", scope))


def _first_match(text, table):
    return next((kind for part, kind in table if part in text), None)

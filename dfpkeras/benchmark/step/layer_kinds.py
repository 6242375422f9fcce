"""Kinds of layers, and which of them an operation of TensorFlow or a kernel belongs to."""

import re

import keras

from dfpkeras.integration import registry

_CONVERSION, _OPTIMIZER, _OTHER = "conversion", "optimizer", "other"

#: Time in which no operation runs.
BETWEEN = "between operations"


def all_kinds():
    """The list of all kinds, in the order of tables and charts."""
    of_layers = [kind for kind in registry.kinds() if kind != _OTHER]
    return [*of_layers, _CONVERSION, _OPTIMIZER, _OTHER]


def kinds_of_layers(model):
    """A dict from the name of each layer, those of nested models included, to its kind."""
    found = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    kinds = {layer.name: registry.kind_of(layer) or _OTHER for layer in found}
    return kinds | {model.optimizer.name: _OPTIMIZER}


def kind_of_operation(name, operation, layer_kinds):
    """The kind of an operation.

    Args:
        name: name of the operation with its scopes: "gradient_tape/model/conv1_1/Conv2D".
        operation: its type, such as "Conv2D".
        layer_kinds: see `kinds_of_layers`.

    Returns:
        One of `all_kinds`.
    """
    found = [kind for scope in name.split("/")[:-1] if (kind := _lookup(scope, layer_kinds))]
    if _OPTIMIZER in found:
        return _OPTIMIZER
    return _kind_by_type(operation) or (found[-1] if found else _OTHER)


def kind_of_kernel(name):
    """The kind of a kernel of this package, by the name that `KernelHits` counts it by."""
    if "quantize" in name:
        return _CONVERSION
    kinds = (f.kind for f in registry.families() if name.startswith(f.kernels or ("?",)))
    return next(kinds, _OTHER)


def _kind_by_type(operation):
    """An operation that TensorFlow fused (convolution, bias, ReLU) counts as its first part."""
    found = [
        (operation.index(part), family.kind)
        for family in registry.families()
        for part in family.float32_operations
        if part in operation
    ]
    return min(found)[1] if found else None


def _lookup(scope, layer_kinds):
    # TensorFlow makes scopes unique by a number after the name.
    return layer_kinds.get(scope) or layer_kinds.get(re.sub(r"_\d+$", "", scope))

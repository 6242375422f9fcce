"""Models that compute in float32 instead."""

import keras

from dfpkeras.integration.policy import POLICY_NAME, DFP16Policy, is_policy_name

_REGISTERED_NAME = keras.saving.get_registered_name(DFP16Policy)


def to_float32(model):
    """A copy of a model that computes in float32, with the same weights.

    It needs no dfpkeras: it can be exported, and saved for a process that does not import dfpkeras.
    The copy is compiled as the model is, with a new optimizer state.

    Args:
        model: `keras.Model` or layer, built, of any policies. Its classes must be those of Keras or
            restorable from their config, as for ``model.save``.

    Returns:
        A new model of the same class; every layer of a policy "dfp16" has the policy "float32", the
        others have their own.

    Raises:
        ValueError: the model has no weights yet, or is not what its config says.
    """
    if not model.built:
        raise ValueError(f"model: expected a built model, got {model.name!r}, which is not built")
    config = _in_float32(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(
        config, custom_objects=_classes(model), safe_mode=False
    )
    weights = model.get_weights()
    if [w.shape for w in copy.get_weights()] != [w.shape for w in weights]:
        raise ValueError(
            f"model: expected a model that its config describes, got {model.name!r}, whose copy "
            "has other weights"
        )
    copy.set_weights(weights)
    return copy


def _in_float32(config):
    """A config in which "float32" takes the place of every policy "dfp16"."""
    if isinstance(config, dict):
        if config.get("registered_name") == _REGISTERED_NAME:
            return "float32"
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(_in_float32, config))
    is_name = isinstance(config, str) and config.startswith(POLICY_NAME)
    return "float32" if is_name and is_policy_name(config) else config


def _classes(model):
    """The classes of a model's layers that are not Keras' own, by name."""
    found = {type(layer) for layer in model._flatten_layers()}
    return {cls.__name__: cls for cls in found if not cls.__module__.startswith("keras.")}

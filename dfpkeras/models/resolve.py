"""From a model's name to the model."""

import difflib
import inspect

import keras

from dfpkeras.models.resnet_small import resnet_small

SMALL_RESNET = "resnet-small"


def model_names():
    """Returns the names ``build_model`` knows: "resnet-small" and those of keras.applications."""
    return [SMALL_RESNET, *sorted(_applications(), key=str.lower)]


def build_model(name, input_shape, num_classes):
    """Builds a model with fresh weights that maps images to logits.

    Args:
        name: "resnet-small" or the name of a model in ``keras.applications``; upper and lower
            case are the same.
        input_shape: ``(height, width, channels)`` of the images.
        num_classes: number of outputs.

    Returns:
        A ``keras.Model`` without a softmax at its end.

    Raises:
        ValueError: there is no model of that name, or it cannot take images of that shape.
    """
    known = {known_name.lower(): known_name for known_name in model_names()}
    if name.lower() not in known:
        similar = difflib.get_close_matches(name.lower(), known, n=3)
        hint = [known[match] for match in similar] or ["resnet-small", "ResNet50", "MobileNetV2"]
        raise ValueError(
            f"unknown model {name!r}; needed is resnet-small or the name of a model in "
            f"keras.applications (such as {', '.join(hint)})"
        )
    if known[name.lower()] == SMALL_RESNET:
        return resnet_small(input_shape, num_classes)
    constructor = getattr(keras.applications, known[name.lower()])
    options = {"weights": None, "input_shape": input_shape, "classes": num_classes}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False
    return constructor(classifier_activation=None, **options)


def scales_its_input(model):
    """Tells whether a model begins by scaling pixel values 0..255 itself (EfficientNet does)."""
    own = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, own) for layer in model.layers)


def _applications():
    members = vars(keras.applications).items()
    return [name for name, member in members if inspect.isfunction(member)]

"""Builds a model from its name."""

import difflib
import functools
import inspect

import keras

from dfpkeras.models.alexnet import AlexNet
from dfpkeras.models.functions import find_function
from dfpkeras.models.googlenet import GoogLeNet
from dfpkeras.models.resnet20 import ResNet20
from dfpkeras.models.resnet50 import ResNet50
from dfpkeras.models.resnet_small import resnet_small
from dfpkeras.models.vgg16 import VGG16

#: Constructors with Keras' conventions.
_OWN = {
    "resnet20": ResNet20,
    "resnet50": ResNet50,
    "resnet50v1.5": functools.partial(ResNet50, version="v1.5"),
    "vgg16": VGG16,
    "googlenet": GoogLeNet,
    "googlenet-bn": functools.partial(GoogLeNet, batch_norm=True),
    "alexnet": AlexNet,
    "alexnet-grouped": functools.partial(AlexNet, groups=2),
}
_SMALL_RESNET = "resnet-small"
_WITH_AUXILIARY_HEADS = ("googlenet", "googlenet-bn")


def model_names():
    """Returns the names ``build_model`` knows: the project's and those of keras.applications."""
    own = [_SMALL_RESNET, *_OWN]
    keys = {_key(name) for name in own}
    others = [name for name in _applications() if _key(name) not in keys]
    return own + sorted(others, key=str.lower)


def find_name(name):
    """Returns the matching name in `model_names`, or None.

    Args:
        name: in any case; "-" and "_" are ignored.
    """
    return {_key(known): known for known in model_names()}.get(_key(name))


def build_model(name, input_shape, num_classes, *, auxiliary_heads=False):
    """Builds a model with fresh weights that maps images to logits.

    Args:
        name: one of `model_names`, in any case, "-" and "_" ignored; or "module:function" of your
            own function, which is called as ``function(input_shape=..., classes=...)`` and returns
            such a model.
        input_shape: ``(height, width, channels)`` of the images.
        num_classes: number of outputs.
        auxiliary_heads: whether a GoogLeNet returns a dict that also has the logits of its
            auxiliary classifiers (see `dfpkeras.models.GoogLeNet`).

    Returns:
        A ``keras.Model`` without a softmax at its end.

    Raises:
        ValueError: there is no model of that name, it cannot take images of that shape, it has no
            auxiliary classifiers, or the function cannot be found or called, or does not return a
            ``keras.Model``.
    """
    options = {"input_shape": input_shape, "classes": num_classes}
    known = name if ":" in name else find_name(name)
    if auxiliary_heads:
        _require_auxiliary_heads(known, name)
        options["auxiliary_heads"] = True
    if ":" in name:
        return _call_users_function(name, **options)
    if known is None:
        raise ValueError(_unknown(name))
    if known == _SMALL_RESNET:
        return resnet_small(input_shape, num_classes)
    constructor = _OWN.get(known) or getattr(keras.applications, known)
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False
    return constructor(weights=None, classifier_activation=None, **options)


def scales_its_input(model):
    """Tells whether a model begins by scaling pixel values 0..255 itself (EfficientNet does)."""
    own = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, own) for layer in model.layers)


def _require_auxiliary_heads(known, name):
    if known not in _WITH_AUXILIARY_HEADS:
        raise ValueError(
            f"model {name!r} has no auxiliary heads; {' and '.join(_WITH_AUXILIARY_HEADS)} have"
        )


def _call_users_function(path, **options):
    function = find_function(path)
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{path}: expected a function that can be called with input_shape and classes: {error}"
        ) from error
    model = function(**options)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{path}: expected a function that returns a keras.Model; it returned "
            f"{type(model).__name__}"
        )
    return model


def _unknown(name):
    known = {_key(known): known for known in model_names()}
    similar = difflib.get_close_matches(_key(name), known, n=3)
    hint = [known[match] for match in similar] or ["resnet-small", "resnet50", "MobileNetV2"]
    return (
        f"unknown model {name!r}; expected {', '.join([_SMALL_RESNET, *_OWN])}, the name of a "
        "model in keras.applications, or module:function of your own "
        f"(similar: {', '.join(hint)})"
    )


def _key(name):
    return name.lower().replace("-", "").replace("_", "")


def _applications():
    members = vars(keras.applications).items()
    return [name for name, member in members if inspect.isfunction(member)]

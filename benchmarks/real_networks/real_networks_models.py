"""The networks: every constructor of keras.applications, and the vision backbones of keras-hub."""

import functools
import inspect

import keras
import numpy as np

CLASSES = 10
BATCH = 4

#: The smallest size of an image that a constructor takes, where it is not 32, or that leaves the
#: last convolutions something to do.
_SIZE = 64
_SIZES = {"InceptionResNetV2": 96, "InceptionV3": 96, "Xception": 96}


def applications():
    """{name: function without arguments that builds it} of everything in `keras.applications`."""
    return {
        name: functools.partial(_application, constructor, _SIZES.get(name, _SIZE))
        for name, constructor in vars(keras.applications).items()
        if inspect.isfunction(constructor) and "classifier_activation" in _parameters(constructor)
    }


def _parameters(function):
    return inspect.signature(function).parameters


def _application(constructor, size):
    return constructor(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )


def images_for(model):
    """A batch of smooth random images with some noise, in the range that the network expects.

    Noise alone would look the same everywhere to a network that averages.
    """
    random, shape = np.random.default_rng(0), model.inputs[0].shape[1:]
    coarse = random.standard_normal((BATCH, shape[0] // 8, shape[1] // 8, shape[2]))
    smooth = np.asarray(keras.ops.image.resize(coarse.astype(np.float32), shape[:2]))
    images = smooth + 0.1 * random.standard_normal(smooth.shape).astype(np.float32)
    takes_bytes = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    return 128 + 60 * images if takes_bytes else images


def backbones():
    """{name: function without arguments that builds it} of keras-hub's vision backbones.

    Raises:
        ValueError: keras-hub has others than `real_networks_backbones` knows.
    """
    from real_networks_backbones import (  # keras-hub may not be installed
        ARGUMENTS,
        LEFT_OUT,
        build,
        vision_backbones,
    )

    known = {*ARGUMENTS, *LEFT_OUT}
    if set(vision_backbones()) != known:
        difference = sorted(known.symmetric_difference(vision_backbones()))
        raise ValueError(f"backbones: expected those of keras-hub, got another list: {difference}")
    return {name: functools.partial(build, name) for name in ARGUMENTS}

"""AlexNet, in one tower and in two."""

import keras
from keras import layers

from dfpkeras.layers import LocalResponseNormalization
from dfpkeras.models.construction import image_input, pooled, scaled, with_weights

#: By number of groups: filters of the five convolutions.
_FILTERS = {1: (64, 192, 384, 384, 256), 2: (96, 256, 384, 384, 256)}
_KERNEL_SIZES = (11, 5, 3, 3, 3)
_GROUPED = (2, 4, 5)
_NORMALIZED = (1, 2)
_POOLED = (1, 2, 5)
_HIDDEN_UNITS = 4096
_SMALLEST_SIZE = 63


def AlexNet(
    include_top=True,
    weights=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="alexnet",
    *,
    groups=1,
    alpha=1.0,
):
    """Builds AlexNet.

    With ``groups=2`` it is the network of Krizhevsky et al., "ImageNet Classification with Deep
    Convolutional Neural Networks" (2012), section 3.5, whose second, fourth and fifth convolution
    were split between two GPUs; it has 60,965,224 parameters. With ``groups=1`` it is the one tower
    of Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014), section
    5, with 61,838,248 parameters. (Torchvision's alexnet follows it with 256 instead of 384 filters
    in the fourth convolution and no local response normalisation: 61,100,840.)

    Both have local response normalisation after the first two convolutions, dropout of 0.5 after
    the two hidden dense layers, and the initialisation of 2012, section 5: normal
    weights with a standard deviation of 0.01, biases of one in convolutions 2, 4 and 5 and in the
    hidden dense layers, other biases of zero. Images get two pixels of zeros on every side, which
    turns 224 pixels into the published 55 positions of the first convolution.

    Args:
        include_top: whether to end with the dense layers.
        weights: None, or the path of a file of weights.
        input_shape: sizes of one image, at least 63x63 pixels; None for (224, 224, 3).
        pooling: without top, "avg" or "max" over all pixels of the last features, or None.
        classes: outputs of the last dense layer.
        classifier_activation: activation of the last dense layer; None for logits.
        name: name of the model.
        groups: 1 or 2.
        alpha: width multiplier of all layers but the last. The standard deviation of the initial
            weights is 0.01 / sqrt(alpha), which keeps that of the sums over channels.

    Returns:
        `keras.Model` from float32 (batch,) + `input_shape` to (batch, classes).

    Raises:
        ValueError: an argument is out of its range, or there is no file `weights`.
    """
    if groups not in _FILTERS:
        raise ValueError(f"Argument `groups` of AlexNet must be 1 or 2. Received: groups={groups}")
    image = image_input("AlexNet", input_shape, 224, _SMALLEST_SIZE)
    x = layers.ZeroPadding2D(2, name="conv1_pad")(image)
    for number in range(1, 6):
        x = _convolution(x, number, groups, alpha)
    x = _classifier(x, classes, classifier_activation, alpha) if include_top else pooled(x, pooling)
    return with_weights(keras.Model(image, x, name=name), weights)


def _convolution(x, number, groups, alpha):
    x = layers.Conv2D(
        scaled(_FILTERS[groups][number - 1], alpha, multiple_of=groups),
        _KERNEL_SIZES[number - 1],
        strides=4 if number == 1 else 1,
        padding="valid" if number == 1 else "same",
        groups=groups if number in _GROUPED else 1,
        activation="relu",
        kernel_initializer=_normal(alpha if number > 1 else 1),
        bias_initializer="ones" if number in _GROUPED else "zeros",
        name=f"conv{number}",
    )(x)
    if number in _NORMALIZED:
        x = LocalResponseNormalization(name=f"norm{number}")(x)
    if number in _POOLED:
        x = layers.MaxPooling2D(3, strides=2, name=f"pool{number}")(x)
    return x


def _classifier(x, classes, activation, alpha):
    x = layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = layers.Dense(
            scaled(_HIDDEN_UNITS, alpha),
            activation="relu",
            kernel_initializer=_normal(alpha),
            bias_initializer="ones",
            name=f"fc{number}",
        )(x)
        x = layers.Dropout(0.5, name=f"dropout{number}")(x)
    return layers.Dense(
        classes, activation=activation, kernel_initializer=_normal(alpha), name="predictions"
    )(x)


def _normal(alpha):
    return keras.initializers.RandomNormal(stddev=0.01 / alpha**0.5)

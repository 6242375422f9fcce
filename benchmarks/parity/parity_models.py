"""Small versions of VGG, GoogLeNet and AlexNet: their building blocks, for images of 28 to 32
pixels.

Each function is one that `dfpkeras train --model parity_models:<name>` takes: from the shape of the
images and the number of classes to a model that returns logits. Channels are a quarter of the
published ones, and what is too large for a small image is left out: most strides of the stem, and
the last stages.
"""

import keras
from keras import layers

from dfpkeras.layers import LocalResponseNormalization
from dfpkeras.models import resnet_small


def vgg(input_shape, classes):
    """VGG (Simonyan and Zisserman, 2014): pairs of 3x3 convolutions with bias and without batch
    norm, max pooling, a hidden dense layer with dropout."""
    inputs = x = keras.Input(input_shape)
    for filters, convolutions in ((16, 2), (32, 2), (64, 2)):
        for _ in range(convolutions):
            x = _conv(x, filters, 3)
        x = layers.MaxPooling2D(2)(x)
    return _classifier(inputs, x, classes, dense_layers=1, name="small_vgg")


def googlenet(input_shape, classes):
    """GoogLeNet-v1 (Szegedy et al., 2014): a stem with local response normalisation, and inception
    modules 3a, 3b, 4a, 4e and 5b, without auxiliary heads."""
    inputs = keras.Input(input_shape)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(_conv(inputs, 16, 3))
    x = LocalResponseNormalization()(x)
    x = _inception(x, 16, 24, 32, 4, 8, 8)
    x = _inception(x, 32, 32, 48, 8, 24, 16)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = _inception(x, 48, 24, 52, 4, 12, 16)
    x = _inception(x, 64, 40, 80, 8, 32, 32)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = _inception(x, 96, 48, 96, 12, 32, 32)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="small_googlenet")


def alexnet(input_shape, classes):
    """AlexNet (Krizhevsky et al., 2012) in its two-tower form: a large kernel with a stride,
    local response normalisation, overlapping pooling, convolutions in two groups, dropout."""
    inputs = keras.Input(input_shape)
    x = LocalResponseNormalization()(_conv(inputs, 24, 7, strides=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = LocalResponseNormalization()(_conv(x, 64, 5, groups=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = _conv(x, 96, 3)
    x = _conv(x, 96, 3, groups=2)
    x = _conv(x, 64, 3, groups=2)
    return _classifier(inputs, x, classes, dense_layers=2, name="small_alexnet")


def _classifier(inputs, x, classes, dense_layers, name):
    x = layers.Flatten()(x)
    for _ in range(dense_layers):
        x = layers.Dense(256, kernel_initializer="he_normal")(x)
        x = layers.Dropout(0.5)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(classes)(x), name=name)


def _inception(x, one, reduce_three, three, reduce_five, five, pool):
    branches = [
        _conv(x, one, 1),
        _conv(_conv(x, reduce_three, 1), three, 3),
        _conv(_conv(x, reduce_five, 1), five, 5),
        _conv(layers.MaxPooling2D(3, strides=1, padding="same")(x), pool, 1),
    ]
    return layers.Concatenate()(branches)


def _conv(x, filters, kernel_size, strides=1, groups=1):
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        groups=groups,
        kernel_initializer="he_normal",
    )(x)
    return layers.ReLU()(x)


def resnet8(input_shape, classes):
    """The network of He et al. (2015) for CIFAR with one block for each stage, for the ablation."""
    return resnet_small(input_shape, classes, blocks_per_stage=1)

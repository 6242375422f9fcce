"""Models for ``dfpkeras bench --step --model``, each from a function without arguments."""

import os
import time

import keras
from keras import layers
from keras_support import keep_small_layers_on_integers, small_cnn

from dfpkeras.benchmark.step.functions import AddPositions

SLEEP = 600

keep_small_layers_on_integers()


def small():
    return small_cnn()


def slow_to_build():
    time.sleep(SLEEP)


def dies():
    os.write(2, b"a last word\n\n")
    os._exit(7)


def no_model():
    return "a string"


def subclassed():
    return Subclassed()


class Subclassed(keras.Model):
    pass


def open_sizes():
    image = keras.Input((None, None, 3))
    return keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))


def without_kernels():
    return keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.UnitNormalization()])


def nested():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, small_cnn()(image))


def all_layers():
    """Every layer that PyTorch knows in the same way: no zeros on one side only."""
    image = keras.Input((9, 9, 3))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = shortcut = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu6")(x)
    x = layers.Conv2D(8, 1, groups=2, activation="tanh")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Add()([shortcut, x])
    x = branch = layers.Activation("relu")(x)
    x = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    x = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    x = layers.Concatenate()([x, branch, shortcut])
    x = layers.Conv2D(6, 3, padding="same", activation="silu")(x)
    x = layers.ReLU(6.0)(layers.Dropout(0.0)(x))
    flat = layers.Flatten()(layers.ZeroPadding2D(((1, 0), (0, 2)))(x))
    flat = layers.Dense(7, activation="sigmoid")(layers.BatchNormalization(center=False)(flat))
    mean = layers.Dense(7)(layers.GlobalAveragePooling2D()(branch))
    return keras.Model(image, [layers.Add()([flat, mean]), x])


def squeeze_and_excite():
    """What EfficientNet and MobileNetV3 have besides `all_layers`, with sums and products that are
    no layers."""
    image = keras.Input((9, 9, 3))
    x = layers.Rescaling(0.5, 0.25)(image)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x)
    x = shortcut = layers.Conv2D(8, 3, activation="hard_silu")(x)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="gelu")(gate)
    gate = layers.ReLU(6.0)(layers.Conv2D(8, 1)(gate) + 3.0) * (1.0 / 6.0)
    x = layers.Multiply()([x, gate])
    gate = layers.Conv2D(8, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    x = layers.Dropout(0.0, noise_shape=(None, 1, 1, 1))(layers.multiply([x, gate]))
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(layers.Add()([x, shortcut]))))


def segmentation_and_attention():
    """What U-Nets and vision transformers have besides."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    y = layers.Conv2DTranspose(6, 2, strides=2, activation="relu")(layers.MaxPooling2D()(x))
    segments = layers.Conv2D(1, 1)(layers.Concatenate()([x, y]))
    tokens = AddPositions()(layers.Reshape((16, 8))(layers.Conv2D(8, 2, strides=2)(image)))
    normalized = layers.LayerNormalization(epsilon=1e-6)(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 4)(normalized, normalized)])
    tokens = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(tokens))
    return keras.Model(image, [segments, layers.Dense(5)(layers.GlobalAveragePooling1D()(tokens))])

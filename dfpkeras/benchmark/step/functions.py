"""Networks that `keras.applications` lacks, for ``bench --step --model``."""

import keras
from keras import layers

_CLASSES = 1000


def unet():
    """A U-Net (Ronneberger et al. 2015) of four levels for images of 256x256 and 3 channels, with
    batch norm, zeros at the borders and half of the paper's filters: 32 to 256, and 512 between
    the two paths. The result has one number for each pixel."""
    images = x = keras.Input((256, 256, 3))
    skipped = []
    for filters in (32, 64, 128, 256):
        x = _two_convolutions(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = _two_convolutions(x, 512)
    for same_size in reversed(skipped):
        filters = same_size.shape[-1]
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = _two_convolutions(layers.Concatenate()([same_size, x]), filters)
    return keras.Model(images, layers.Conv2D(1, 1)(x), name="unet")


def _two_convolutions(x, filters):
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


class AddPositions(layers.Layer):
    """Adds a learned vector to each token."""

    def build(self, input_shape):
        self.positions = self.add_weight(
            shape=input_shape[1:], initializer=keras.initializers.TruncatedNormal(0.0, 0.02)
        )

    def call(self, inputs):
        return inputs + self.positions


def vit_tiny():
    """ViT-Tiny/16 (Dosovitskiy et al. 2021; Touvron et al. 2021) for images of 224x224: 12 blocks
    of 192 channels and 3 heads. The mean of all tokens is classified, instead of a token of its
    own."""
    images = keras.Input((224, 224, 3))
    x = layers.Conv2D(192, 16, strides=16)(images)
    x = AddPositions()(layers.Reshape((196, 192))(x))
    for _ in range(12):
        x = _transformer_block(x, heads=3, channels=192)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(images, layers.Dense(_CLASSES)(x), name="vit_tiny")


def _transformer_block(x, heads, channels):
    normalized = layers.LayerNormalization(epsilon=1e-6)(x)
    attention = layers.MultiHeadAttention(heads, channels // heads)
    x = layers.Add()([x, attention(normalized, normalized)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense(4 * channels, activation="gelu")(y)
    return layers.Add()([x, layers.Dense(channels)(y)])

"""A small model around every kind of layer that runs on the kernels."""

import keras
from keras import layers

from dfpkeras.installation import release


def _on_images(*kinds, shape=(6, 6, 2)):
    """A model of a convolution, layers that take its images, and a dense layer."""

    def make():
        return keras.Sequential(
            [
                keras.Input(shape),
                (layers.Conv2D if len(shape) == 3 else layers.Conv1D)(4, 3),
                *(kind() for kind in kinds),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )

    return make


def _on_sequences(*kinds):
    return _on_images(*kinds, shape=(6, 2))


def _merging(merge, *others):
    def make():
        inputs = keras.Input((6, 6, 2))
        a, b = layers.Conv2D(4, 3)(inputs), layers.Conv2D(4, 3)(inputs)
        for other in others:
            a = other()(a)
        outputs = layers.Activation("relu")(merge()([a, b]))
        return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(outputs)))

    return make


#: Functions without arguments that make a model, by a name.
MODELS = {
    "convolution": _on_images(),
    "activations": _on_images(layers.ReLU, lambda: layers.Conv2D(4, 3, activation="relu6")),
    "convolution_1d": _on_sequences(lambda: layers.Conv1D(4, 3, padding="causal")),
    "depthwise": _on_images(lambda: layers.DepthwiseConv2D(3)),
    "depthwise_1d": _on_sequences(lambda: layers.DepthwiseConv1D(3)),
    "separable": _on_images(lambda: layers.SeparableConv2D(4, 3)),
    "separable_1d": _on_sequences(lambda: layers.SeparableConv1D(4, 3)),
    "batch_norm": _on_images(layers.BatchNormalization, layers.ReLU),
    "batch_norm_axis": _on_images(lambda: layers.BatchNormalization(axis=1)),
    "add": _merging(layers.Add),
    "batch_norm_add": _merging(layers.Add, layers.BatchNormalization),
    "concatenate": _merging(layers.Concatenate),
    "max_pooling": _on_images(layers.ReLU, lambda: layers.MaxPooling2D(2)),
    "max_pooling_1d": _on_sequences(layers.ReLU, lambda: layers.MaxPooling1D(2)),
    "average_pooling": _on_images(layers.ReLU, lambda: layers.AveragePooling2D(2)),
    "average_pooling_1d": _on_sequences(layers.ReLU, lambda: layers.AveragePooling1D(2)),
    "global_average": _on_images(layers.ReLU, layers.GlobalAveragePooling2D),
    "global_average_1d": _on_sequences(layers.ReLU, layers.GlobalAveragePooling1D),
    "global_max": _on_images(layers.ReLU, layers.GlobalMaxPooling2D),
    "global_max_1d": _on_sequences(layers.ReLU, layers.GlobalMaxPooling1D),
    "zero_padding": _on_images(layers.ReLU, lambda: layers.ZeroPadding2D(1)),
    "zero_padding_1d": _on_sequences(layers.ReLU, lambda: layers.ZeroPadding1D(1)),
    "cropping": _on_images(layers.ReLU, lambda: layers.Cropping2D(1)),
    "cropping_1d": _on_sequences(layers.ReLU, lambda: layers.Cropping1D(1)),
    "reshape": _on_images(layers.ReLU, lambda: layers.Reshape((8, 8, 1))),
}

# TensorFlow's own convolutions take channels_first on some CPUs only; Keras transposes for
# depthwise ones since 3.14.
if release(keras.__version__) >= (3, 14):
    MODELS["channels_first"] = _on_images(
        lambda: layers.Permute((3, 1, 2)),
        lambda: layers.DepthwiseConv2D(3, data_format="channels_first"),
    )

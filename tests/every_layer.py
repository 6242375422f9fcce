"""Small models with every kind of layer that runs on the kernels."""

import keras
from keras import layers

from dfpkeras.integration.installation import release
from dfpkeras.integration.keras_internals import LayerScale


def _on_images(*kinds, shape=(6, 6, 2)):
    """A model of a convolution, layers on its images, and a dense layer."""

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


def _on_volumes():
    """A model with every layer of volumes."""
    inputs = x = keras.Input((5, 5, 4, 2))
    for layer in (
        layers.Conv3D(4, 3),
        layers.Conv3DTranspose(4, 2, strides=(1, 2, 1)),
        layers.ReLU(),
        layers.AveragePooling3D(2, 1),
        layers.MaxPooling3D(2, 1),
        layers.ZeroPadding3D(1),
        layers.Cropping3D(((1, 0), (0, 1), (1, 0))),
        layers.SpatialDropout3D(0.3),
    ):
        x = layer(x)
    pooled = [layers.GlobalAveragePooling3D()(x), layers.GlobalMaxPooling3D()(x)]
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(pooled)))


def _merging(merge, *others):
    def make():
        inputs = keras.Input((6, 6, 2))
        a, b = layers.Conv2D(4, 3)(inputs), layers.Conv2D(4, 3)(inputs)
        for other in others:
            a = other()(a)
        outputs = layers.Activation("relu")(merge()([a, b]))
        return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(outputs)))

    return make


def _attending():
    inputs = keras.Input((6, 2))
    x = layers.Dense(8)(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.GroupQueryAttention(4, 2, 1)(x, x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def _adding_what_is_scaled():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = x + LayerScale(0.5, 4)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def _one_after_another():
    """Every merge of two tensors that is not in a model of its own."""

    def merge(tensors):
        a, b = tensors
        for cls in (layers.Average, layers.Maximum, layers.Subtract, layers.Minimum):
            a = cls()([a, b])
        return a

    return merge


def _pooling_globally(average, maximum, shape):
    def make():
        inputs = keras.Input(shape)
        x = (layers.Conv2D if len(shape) == 3 else layers.Conv1D)(4, 3, activation="relu")(inputs)
        both = layers.Concatenate()([average()(x), maximum()(x)])
        return keras.Model(inputs, layers.Dense(3)(both))

    return make


#: Functions without arguments that make a model, by a name. Layers of a kind follow each other in
#: one model: the gradients of the convolution before them lack whatever one of them loses.
MODELS = {
    "convolution": _on_images(),
    "convolutions_1d": _on_sequences(
        lambda: layers.Conv1D(4, 3, padding="causal"),
        lambda: layers.DepthwiseConv1D(2),
        lambda: layers.SeparableConv1D(4, 2),
    ),
    "depthwise": _on_images(
        lambda: layers.DepthwiseConv2D(2), lambda: layers.SeparableConv2D(4, 2)
    ),
    "activations": _on_images(
        layers.ReLU,
        lambda: layers.Conv2D(4, 3, activation="relu6"),
        layers.PReLU,
        lambda: layers.PReLU(shared_axes=(1, 2)),
    ),
    "functions": _on_images(
        layers.BatchNormalization,
        lambda: layers.Activation("silu"),
        lambda: layers.Conv2D(4, 1, activation="gelu"),
        lambda: layers.Conv2D(4, 1),
        layers.LeakyReLU,
        lambda: layers.Conv2D(4, 1),
        layers.ELU,
    ),
    "batch_norm": _on_images(layers.BatchNormalization, layers.ReLU),
    "batch_norm_axis": _on_images(lambda: layers.BatchNormalization(axis=1)),
    "layer_norm": _on_images(
        layers.LayerNormalization, lambda: layers.GroupNormalization(2, axis=-1)
    ),
    "add": _merging(layers.Add),
    "multiply": _merging(layers.Multiply, layers.ReLU),
    "residual": _adding_what_is_scaled,
    "gate": _merging(
        layers.Multiply, layers.ReLU, lambda: layers.GlobalAveragePooling2D(keepdims=True)
    ),
    "merges": _merging(_one_after_another),
    "dropout": _on_images(
        layers.ReLU,
        lambda: layers.Dropout(0.3),
        lambda: layers.SpatialDropout2D(0.3),
        lambda: layers.Dropout(0.3, noise_shape=(None, 1, 1, 1)),
    ),
    "dropout_1d": _on_sequences(layers.ReLU, lambda: layers.SpatialDropout1D(0.3)),
    "transposed_convolution": _on_images(lambda: layers.Conv2DTranspose(4, 3, strides=2)),
    "transposed_convolution_1d": _on_sequences(lambda: layers.Conv1DTranspose(4, 3)),
    "einsum": _on_sequences(
        lambda: layers.EinsumDense("abc,cde->abde", (4, 2, 4), bias_axes="de"),
        lambda: layers.EinsumDense("abde,dec->abc", (4, 4), bias_axes="c"),
        lambda: layers.EinsumDense("abc,bcd->adb", (5, 4), bias_axes="d"),
    ),
    "attention": _attending,
    "batch_norm_add": _merging(layers.Add, layers.BatchNormalization),
    "concatenate": _merging(layers.Concatenate),
    "pooling": _on_images(
        layers.ReLU, lambda: layers.AveragePooling2D(2, 1), lambda: layers.MaxPooling2D(2, 1)
    ),
    "pooling_1d": _on_sequences(
        layers.ReLU, lambda: layers.AveragePooling1D(2, 1), lambda: layers.MaxPooling1D(2, 1)
    ),
    "global_pooling": _pooling_globally(
        layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, (6, 6, 2)
    ),
    "global_pooling_1d": _pooling_globally(
        layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D, (6, 2)
    ),
    "data_movement": _on_images(
        layers.ReLU,
        lambda: layers.ZeroPadding2D(1),
        lambda: layers.Cropping2D(((2, 0), (0, 1))),
        lambda: layers.UpSampling2D((2, 3)),
        lambda: layers.Reshape((15, 32)),
        lambda: layers.Permute((2, 1)),
    ),
    "volumes": _on_volumes,
    "data_movement_1d": _on_sequences(
        layers.ReLU,
        lambda: layers.ZeroPadding1D(1),
        lambda: layers.Cropping1D((2, 0)),
        lambda: layers.UpSampling1D(3),
        layers.Flatten,
        lambda: layers.RepeatVector(2),
    ),
}

# TensorFlow's own convolutions take channels_first only on some CPUs; Keras transposes for
# depthwise ones since 3.14.
if release(keras.__version__) >= (3, 14):
    MODELS["channels_first"] = _on_images(
        lambda: layers.Permute((3, 1, 2)),
        lambda: layers.DepthwiseConv2D(3, data_format="channels_first"),
    )

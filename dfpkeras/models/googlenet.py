"""GoogLeNet, the first Inception network."""

import keras
from keras import layers

from dfpkeras.layers import LocalResponseNormalization
from dfpkeras.models.construction import channel_axis, image_input, pooled, scaled, with_weights

#: Filters of each Inception module, in the order of table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5,
#: pool projection.
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED = ("3b", "4e")
_AUXILIARY_HEADS = {"4a": "auxiliary_1", "4d": "auxiliary_2"}
_SMALLEST_SIZE = 32


def GoogLeNet(
    include_top=True,
    weights=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="googlenet",
    *,
    auxiliary_heads=False,
    batch_norm=False,
    alpha=1.0,
):
    """Builds GoogLeNet: Szegedy et al., "Going Deeper with Convolutions" (2014), table 1.

    It has 6,998,552 parameters, and 13,378,280 with both auxiliary heads: average pooling of 5x5
    with stride 3, a 1x1 convolution of 128 filters, a dense layer of 1024 units, dropout of 0.7 and
    the classifier, after modules 4a and 4d (section 5). They are for training; the model without
    them is ``keras.Model(model.inputs, model.output["logits"])``.

    Local response normalisation has the constants of AlexNet, and weights are initialised by
    `keras.initializers.HeNormal`: the paper states neither.

    Args:
        include_top: whether to end with global average pooling, dropout of 0.4 and a dense layer.
        weights: None, or the path of a file of weights.
        input_shape: sizes of one image, at least 32x32 pixels; None for (224, 224, 3). Below 65
            pixels the auxiliary heads see less than 5x5 positions and average over all of them.
        pooling: without top, "avg" or "max" over all pixels of the last features, or None.
        classes: outputs of each classifier.
        classifier_activation: activation of each classifier; None for logits.
        name: name of the model.
        auxiliary_heads: whether to return the auxiliary classifiers' outputs, too.
        batch_norm: batch normalisation after every convolution, which then has no bias, instead of
            local response normalisation: Ioffe and Szegedy, "Batch Normalization" (2015), section
            4.2.1.
        alpha: width multiplier of all layers but the classifiers.

    Returns:
        `keras.Model` from float32 (batch,) + `input_shape` to (batch, classes); with
        `auxiliary_heads` to a dict of three such outputs, "logits", "auxiliary_1", "auxiliary_2".

    Raises:
        ValueError: an argument is out of its range, there is no file `weights`, or
            `auxiliary_heads` are asked for without top.
    """
    if auxiliary_heads and not include_top:
        raise ValueError("Argument `auxiliary_heads=True` of GoogLeNet needs `include_top=True`.")
    image = image_input("GoogLeNet", input_shape, 224, _SMALLEST_SIZE)
    build = _Builder(batch_norm, alpha)
    x, branches = build.features(image)
    if not include_top:
        outputs = pooled(x, pooling)
    else:
        outputs = build.classifier(x, classes, classifier_activation)
    if auxiliary_heads:
        outputs = {"logits": outputs} | {
            head: build.auxiliary_head(branches[module], head, classes, classifier_activation)
            for module, head in _AUXILIARY_HEADS.items()
        }
    return with_weights(keras.Model(image, outputs, name=name), weights)


class _Builder:
    """The parts of the network, for one choice of `batch_norm` and `alpha`."""

    def __init__(self, batch_norm, alpha):
        self.batch_norm = batch_norm
        self.alpha = alpha

    def features(self, image):
        """Returns the last features, and those of every module by its name."""
        x = self.convolution(image, 64, 7, "conv1", strides=2)
        x = self.normalized(_max_pool(x, "pool1"), "norm1")
        x = self.convolution(x, 64, 1, "conv2_reduce")
        x = self.normalized(self.convolution(x, 192, 3, "conv2"), "norm2")
        x, modules = _max_pool(x, "pool2"), {}
        for name, filters in _MODULES.items():
            x = modules[name] = self.inception(x, filters, f"inception_{name}")
            if name in _POOLED:
                x = _max_pool(x, f"pool{name[0]}")
        return x, modules

    def inception(self, x, filters, name):
        one, reduce_three, three, reduce_five, five, projection = filters
        pool = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
        three_input = self.convolution(x, reduce_three, 1, f"{name}_3x3_reduce")
        five_input = self.convolution(x, reduce_five, 1, f"{name}_5x5_reduce")
        branches = [
            self.convolution(x, one, 1, f"{name}_1x1"),
            self.convolution(three_input, three, 3, f"{name}_3x3"),
            self.convolution(five_input, five, 5, f"{name}_5x5"),
            self.convolution(pool, projection, 1, f"{name}_pool_projection"),
        ]
        return layers.Concatenate(axis=channel_axis(), name=f"{name}_concat")(branches)

    def classifier(self, x, classes, activation):
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.4, name="dropout")(x)
        return layers.Dense(classes, activation=activation, name="predictions")(x)

    def auxiliary_head(self, x, name, classes, activation):
        sizes = x.shape[1:3] if channel_axis() == -1 else x.shape[2:]
        pool_size = tuple(min(5, size) for size in sizes)
        x = layers.AveragePooling2D(pool_size, strides=3, name=f"{name}_pool")(x)
        x = self.convolution(x, 128, 1, f"{name}_conv")
        x = layers.Flatten(name=f"{name}_flatten")(x)
        units = scaled(1024, self.alpha)
        x = layers.Dense(
            units, activation="relu", kernel_initializer="he_normal", name=f"{name}_dense"
        )(x)
        x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
        return layers.Dense(classes, activation=activation, name=name)(x)

    def convolution(self, x, filters, kernel_size, name, strides=1):
        x = layers.Conv2D(
            scaled(filters, self.alpha),
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=not self.batch_norm,
            activation=None if self.batch_norm else "relu",
            kernel_initializer="he_normal",
            name=name,
        )(x)
        if not self.batch_norm:
            return x
        x = layers.BatchNormalization(channel_axis(), momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def normalized(self, x, name):
        return x if self.batch_norm else LocalResponseNormalization(name=name)(x)


def _max_pool(x, name):
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(x)

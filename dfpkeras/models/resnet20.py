"""ResNet-20 for images of CIFAR's size."""

import keras
from keras import layers

from dfpkeras.models.construction import image_input, pooled, with_weights
from dfpkeras.models.resnet_small import residual_stages

_SMALLEST_SIZE = 8


def ResNet20(
    include_top=True,
    weights=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="resnet20",
):
    """Builds ResNet-20: He et al., "Deep Residual Learning for Image Recognition" (2015), 4.2.

    Where the two later stages begin, the shortcut is a 1x1 convolution with batch normalisation
    (the paper's option B), not the subsampling and zero channels of option A: it is made of Keras'
    layers only and stays on integers. It has 272,474 trainable parameters, 2,752 more than with
    option A: 0.27 million, as in table 6.

    Args:
        include_top: whether to end with global average pooling and a dense layer.
        weights: None, or the path of a file of weights.
        input_shape: sizes of one image, at least 8x8 pixels, channels last; None for (32, 32, 3).
        pooling: without top, "avg" or "max" over all pixels of the last features, or None.
        classes: outputs of the dense layer.
        classifier_activation: activation of the dense layer; None for logits.
        name: name of the model.

    Returns:
        `keras.Model` from float32 (batch,) + `input_shape` to (batch, classes).

    Raises:
        ValueError: an argument is out of its range, or there is no file `weights`.
    """
    image = image_input("ResNet20", input_shape, 32, _SMALLEST_SIZE)
    x = residual_stages(image, width=16, blocks_per_stage=3)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    else:
        x = pooled(x, pooling)
    return with_weights(keras.Model(image, x, name=name), weights)

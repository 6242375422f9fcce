"""VGG-16 of any width."""

import keras
from keras import layers

from dfpkeras.models.construction import image_input, pooled, scaled, with_weights

#: (filters, convolutions) of each block: configuration D of table 1.
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_HIDDEN_UNITS = 4096
_SMALLEST_SIZE = 32


def VGG16(
    include_top=True,
    weights=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="vgg16",
    *,
    dropout=0.5,
    alpha=1.0,
):
    """Builds VGG-16: Simonyan and Zisserman, "Very Deep Convolutional Networks" (2014).

    With ``alpha=1`` it has the layers, the names and the 138,357,544 parameters of
    `keras.applications.VGG16`, whose weights it can load, and also the dropout of the paper's
    section 3.1, which that model leaves out.

    Args:
        include_top: whether to end with the dense layers.
        weights: None, or the path of a file of weights.
        input_shape: sizes of one image, at least 32x32 pixels; None for (224, 224, 3).
        pooling: without top, "avg" or "max" over all pixels of the last features, or None.
        classes: outputs of the last dense layer.
        classifier_activation: activation of the last dense layer; None for logits.
        name: name of the model.
        dropout: fraction of the two hidden dense layers' units that is dropped in training.
        alpha: width multiplier of all layers but the last.

    Returns:
        `keras.Model` from float32 (batch,) + `input_shape` to (batch, classes).

    Raises:
        ValueError: an argument is out of its range, or there is no file `weights`.
    """
    image = x = image_input("VGG16", input_shape, 224, _SMALLEST_SIZE)
    for block, (filters, convolutions) in enumerate(_BLOCKS, 1):
        for number in range(1, convolutions + 1):
            x = layers.Conv2D(
                scaled(filters, alpha),
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{number}",
            )(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    if include_top:
        x = _classifier(x, classes, classifier_activation, dropout, alpha)
    else:
        x = pooled(x, pooling)
    return with_weights(keras.Model(image, x, name=name), weights)


def _classifier(x, classes, activation, dropout, alpha):
    x = layers.Flatten(name="flatten")(x)
    for number in (1, 2):
        x = layers.Dense(scaled(_HIDDEN_UNITS, alpha), activation="relu", name=f"fc{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)

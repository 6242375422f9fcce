"""ResNet-50 with its strides in either of two places."""

import keras

from dfpkeras.models.construction import with_weights

_VERSIONS = ("v1", "v1.5")
_STRIDED_STAGES = ("conv3", "conv4", "conv5")


def ResNet50(
    include_top=True,
    weights=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="resnet50",
    *,
    version="v1",
):
    """Builds the ResNet-50 of `keras.applications`, or its variant 1.5.

    In v1 (He et al., "Deep Residual Learning for Image Recognition", 2015) a stage that halves the
    image does so in the first 1x1 convolution of its first block. In v1.5 the 3x3 convolution
    after it does (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1). Both have the
    same layers, names and 25,636,712 parameters: a file of weights fits either.

    Args:
        include_top: whether to end with global average pooling and a dense layer.
        weights: None, or the path of a file of weights.
        input_shape: sizes of one image, at least 32x32 pixels; None for (224, 224, 3).
        pooling: without top, "avg" or "max" over all pixels of the last features, or None.
        classes: outputs of the dense layer.
        classifier_activation: activation of the dense layer; None for logits.
        name: name of the model.
        version: "v1" or "v1.5".

    Returns:
        `keras.Model` from float32 (batch,) + `input_shape` to (batch, classes).

    Raises:
        ValueError: an argument is out of its range, or there is no file `weights`.
    """
    if version not in _VERSIONS:
        raise ValueError(
            f"Argument `version` of ResNet50 must be one of {_VERSIONS}. "
            f"Received: version={version!r}"
        )
    model = keras.applications.ResNet50(
        include_top=include_top,
        weights=None,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
    )
    if version == "v1.5":
        model = keras.models.clone_model(model, clone_function=_with_strides_on_3x3)
    return with_weights(model, weights)


def _with_strides_on_3x3(layer):
    config = layer.get_config()
    if layer.name in [f"{stage}_block1_1_conv" for stage in _STRIDED_STAGES]:
        config["strides"] = 1
    if layer.name in [f"{stage}_block1_2_conv" for stage in _STRIDED_STAGES]:
        config["strides"] = 2
    return type(layer).from_config(config)

"""What the constructors of this package share: Keras' conventions."""

import os

import keras


def channel_axis():
    """Returns the axis of the channels in Keras' global data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def image_input(model_name, input_shape, default_size, smallest_size):
    """Returns the `keras.Input` of a model of images.

    Args:
        model_name: name in messages.
        input_shape: sizes of one image in Keras' global data format; None for square images of
            `default_size` with three channels.
        default_size: side in pixels.
        smallest_size: least height and width in pixels.

    Raises:
        ValueError: `input_shape` is not the shape of an image, or the image is too small.
    """
    if input_shape is None:
        sizes = (default_size, default_size)
        input_shape = (*sizes, 3) if channel_axis() == -1 else (3, *sizes)
    if len(input_shape) != 3 or not all(isinstance(size, int) for size in input_shape):
        raise ValueError(
            f"Argument `input_shape` of {model_name} must be a tuple of three ints. "
            f"Received: input_shape={input_shape}"
        )
    sizes = input_shape[:2] if channel_axis() == -1 else input_shape[1:]
    if min(sizes) < smallest_size:
        raise ValueError(
            f"{model_name} needs images of at least {smallest_size}x{smallest_size} pixels. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    return keras.Input(input_shape)


def scaled(channels, alpha, multiple_of=1):
    """Returns the width of a layer of a network that is `alpha` times as wide as published.

    Args:
        channels: published width.
        alpha: width multiplier, above 0.
        multiple_of: what the width must be divisible by.

    Raises:
        ValueError: `alpha` is not above 0.
    """
    if not alpha > 0:
        raise ValueError(f"Argument `alpha` must be above 0. Received: alpha={alpha!r}")
    return multiple_of * max(1, round(channels * alpha / multiple_of))


def pooled(features, pooling):
    """Returns the output of a model without its top, from its last features.

    Args:
        features: tensor of rank 4.
        pooling: "avg" or "max" over all pixels, or None for the features themselves.

    Raises:
        ValueError: `pooling` is anything else.
    """
    if pooling is None:
        return features
    layers = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }
    if pooling not in layers:
        raise ValueError(
            f"Argument `pooling` must be 'avg', 'max' or None. Received: pooling={pooling!r}"
        )
    return layers[pooling](name=f"{pooling}_pool")(features)


def with_weights(model, weights):
    """Returns `model` with the weights of a file.

    Args:
        model: `keras.Model`.
        weights: path of a file that `keras.Model.load_weights` reads, or None for none.

    Raises:
        ValueError: there is no such file, or its weights have other shapes.
    """
    if weights is None:
        return model
    if not os.path.exists(weights):
        raise ValueError(
            "Argument `weights` must be None or the path of a file of weights. "
            f"Received: weights={os.fspath(weights)!r}"
        )
    model.load_weights(weights)
    return model

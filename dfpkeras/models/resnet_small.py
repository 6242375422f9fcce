"""A small residual network for images the size of MNIST's or CIFAR's."""

import keras

from dfpkeras.models.construction import channel_axis


def resnet_small(input_shape, num_classes, width=16, blocks_per_stage=2):
    """Builds a ResNet-v1 of three stages, made of ordinary Keras layers.

    The form is that of He et al., "Deep Residual Learning for Image Recognition" (2015), section
    4.2: a 3x3 convolution, three stages of residual blocks of two 3x3 convolutions with ``width``,
    ``2 * width`` and ``4 * width`` channels, the later two beginning with stride 2, global average
    pooling and a dense layer. Where a block changes the shape, its shortcut is a 1x1 convolution.
    It has ``6 * blocks_per_stage + 2`` layers with weights, shortcuts not counted.

    Args:
        input_shape: sizes of one image in Keras' global data format.
        num_classes: number of outputs.
        width: channels of the first stage.
        blocks_per_stage: residual blocks in each stage.

    Returns:
        A ``keras.Model`` from float32 ``(batch,) + input_shape`` to logits
        ``(batch, num_classes)``.
    """
    inputs = keras.Input(input_shape)
    x = residual_stages(inputs, width, blocks_per_stage)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(inputs, logits, name="resnet_small")


def residual_stages(inputs, width, blocks_per_stage):
    """Returns the last features: ``4 * width`` channels, a quarter of the height and the width."""
    x = _conv_batch_norm(inputs, width, kernel_size=3, strides=1, name="stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage in range(3):
        for block in range(blocks_per_stage):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _residual_block(x, width * 2**stage, strides, f"stage{stage + 1}_block{block + 1}")
    return x


def _residual_block(x, filters, strides, name):
    shortcut = x
    if strides != 1 or x.shape[channel_axis()] != filters:
        shortcut = _conv_batch_norm(x, filters, 1, strides, f"{name}_shortcut")
    x = _conv_batch_norm(x, filters, 3, strides, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_batch_norm(x, filters, 3, 1, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _conv_batch_norm(x, filters, kernel_size, strides, name):
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    # Keras' default of 0.99 would lag behind in the few hundred steps that small data need.
    return keras.layers.BatchNormalization(channel_axis(), momentum=0.9, name=f"{name}_bn")(x)

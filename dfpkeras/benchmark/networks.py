"""The distinct convolutions and dense layers of four networks, and how often each occurs.

Images are 224x224 (AlexNet: 227x227) and have 3 channels. 1x1 convolutions need no padding and are
"valid" throughout, so that networks share them.
"""

from dfpkeras.benchmark.layer_shapes import Convolution, Dense


def _conv(size, channels, filters, kernel_size, strides=1, padding=None, groups=1):
    padding = padding or ("valid" if kernel_size == 1 else "same")
    return Convolution(size, size, channels, filters, kernel_size, strides, padding, groups)


#: He et al. 2015, as `keras.applications.ResNet50`: the stride is in the first 1x1 convolution of
#: a stage, and the images of the first layer come padded by 3.
RESNET50 = {
    _conv(230, 3, 64, 7, 2, "valid"): 1,
    _conv(56, 64, 64, 1): 1,
    _conv(56, 64, 64, 3): 3,
    _conv(56, 64, 256, 1): 4,
    _conv(56, 256, 64, 1): 2,
    _conv(56, 256, 128, 1, 2): 1,
    _conv(28, 128, 128, 3): 4,
    _conv(28, 128, 512, 1): 4,
    _conv(56, 256, 512, 1, 2): 1,
    _conv(28, 512, 128, 1): 3,
    _conv(28, 512, 256, 1, 2): 1,
    _conv(14, 256, 256, 3): 6,
    _conv(14, 256, 1024, 1): 6,
    _conv(28, 512, 1024, 1, 2): 1,
    _conv(14, 1024, 256, 1): 5,
    _conv(14, 1024, 512, 1, 2): 1,
    _conv(7, 512, 512, 3): 3,
    _conv(7, 512, 2048, 1): 3,
    _conv(14, 1024, 2048, 1, 2): 1,
    _conv(7, 2048, 512, 1): 2,
    Dense(2048, 1000): 1,
}

#: Simonyan and Zisserman 2014, configuration D, as `keras.applications.VGG16`.
VGG16 = {
    _conv(224, 3, 64, 3): 1,
    _conv(224, 64, 64, 3): 1,
    _conv(112, 64, 128, 3): 1,
    _conv(112, 128, 128, 3): 1,
    _conv(56, 128, 256, 3): 1,
    _conv(56, 256, 256, 3): 2,
    _conv(28, 256, 512, 3): 1,
    _conv(28, 512, 512, 3): 2,
    _conv(14, 512, 512, 3): 3,
    Dense(25088, 4096): 1,
    Dense(4096, 4096): 1,
    Dense(4096, 1000): 1,
}

# Szegedy et al. 2014, table 1: size and channels of a module's input; filters of its 1x1, 3x3
# reduce, 3x3, 5x5 reduce, 5x5 and pool projection.
INCEPTIONS = {
    "3a": (28, 192, 64, 96, 128, 16, 32, 32),
    "3b": (28, 256, 128, 128, 192, 32, 96, 64),
    "4a": (14, 480, 192, 96, 208, 16, 48, 64),
    "4b": (14, 512, 160, 112, 224, 24, 64, 64),
    "4c": (14, 512, 128, 128, 256, 24, 64, 64),
    "4d": (14, 512, 112, 144, 288, 32, 64, 64),
    "4e": (14, 528, 256, 160, 320, 32, 128, 128),
    "5a": (7, 832, 256, 160, 320, 32, 128, 128),
    "5b": (7, 832, 384, 192, 384, 48, 128, 128),
}


def inception(size, channels, one, reduce_three, three, reduce_five, five, projection):
    """The six convolutions of one Inception module, in the order of the paper's columns."""
    return (
        _conv(size, channels, one, 1),
        _conv(size, channels, reduce_three, 1),
        _conv(size, reduce_three, three, 3),
        _conv(size, channels, reduce_five, 1),
        _conv(size, reduce_five, five, 5),
        _conv(size, channels, projection, 1),
    )


def _googlenet():
    layers = [_conv(224, 3, 64, 7, 2), _conv(56, 64, 64, 1), _conv(56, 64, 192, 3)]
    for module in INCEPTIONS.values():
        layers += inception(*module)
    # The auxiliary classifiers are after modules 4a and 4d, in training only.
    layers += [_conv(4, 512, 128, 1), _conv(4, 528, 128, 1)]
    layers += 2 * [Dense(2048, 1024), Dense(1024, 1000)]
    layers.append(Dense(1024, 1000))
    return {layer: layers.count(layer) for layer in dict.fromkeys(layers)}


#: Szegedy et al. 2014, table 1, and the two auxiliary classifiers of section 5.
GOOGLENET = _googlenet()

#: Krizhevsky et al. 2012: the second, fourth and fifth convolution in two groups. The paper's
#: 224x224 images give its 55x55 outputs only as 227x227.
ALEXNET = {
    _conv(227, 3, 96, 11, 4, "valid"): 1,
    _conv(27, 96, 256, 5, groups=2): 1,
    _conv(13, 256, 384, 3): 1,
    _conv(13, 384, 384, 3, groups=2): 1,
    _conv(13, 384, 256, 3, groups=2): 1,
    Dense(9216, 4096): 1,
    Dense(4096, 4096): 1,
    Dense(4096, 1000): 1,
}

#: {name: {layer: number of occurrences}}
NETWORKS = {
    "resnet50": RESNET50,
    "vgg16": VGG16,
    "googlenet": GOOGLENET,
    "alexnet": ALEXNET,
}

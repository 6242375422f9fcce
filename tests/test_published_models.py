"""GoogLeNet, AlexNet, VGG-16, ResNet-50 and ResNet-20: as published, and trained on integers."""

import functools
import math

import pytest

from dfpkeras.models import VGG16, AlexNet, GoogLeNet, ResNet20, ResNet50


def parameters(model, below=None):
    """Trainable numbers of a model, or of its layers whose names begin with `below`."""
    return sum(
        math.prod(weights.shape)
        for layer in model.layers
        if below is None or layer.name.startswith(below)
        for weights in layer.trainable_weights
    )


# Simonyan and Zisserman's and He et al.'s as keras.applications has them; BVLC's of the Caffe
# model zoo; torchvision's alexnet (61,100,840) with the paper's 384 filters in the fourth
# convolution; He et al. 2015, table 6, in millions.
TORCHVISION_ALEXNET = 61_100_840
FOURTH_CONVOLUTION = (384 - 256) * (384 * 9 + 1) + (384 - 256) * 256 * 9


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (functools.partial(AlexNet, groups=2), 60_965_224),
        (AlexNet, TORCHVISION_ALEXNET + FOURTH_CONVOLUTION),
        (GoogLeNet, 6_998_552),
        (functools.partial(GoogLeNet, auxiliary_heads=True), 13_378_280),
        (VGG16, 138_357_544),
        (ResNet50, 25_636_712),
        (functools.partial(ResNet50, version="v1.5"), 25_636_712),
    ],
)
def test_parameters_are_those_published(build, published):
    model = build()
    assert model.count_params() == published
    assert model.inputs[0].shape == (None, 224, 224, 3)


def test_parameters_of_resnet20():
    model = ResNet20()
    assert round(parameters(model) / 1e6, 2) == 0.27
    shortcuts = sum(parameters(model, f"stage{stage}_block1_shortcut") for stage in (2, 3))
    # Option A: 7, 6 and 6 convolutions of 3x3 with batch norm, and the dense layer.
    stages = 3 * 16 * 9 + 6 * 16**2 * 9 + (16 * 32 + 5 * 32**2) * 9 + (32 * 64 + 5 * 64**2) * 9
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(model) - shortcuts == stages + norms + 64 * 10 + 10


# Table 1 of Szegedy et al. 2014, column "params", in units of 1024. It is up to 8 % off (in 4c)
# what the filters in the same table come to.
TABLE_1 = {
    "conv2": 112,
    "inception_3a": 159,
    "inception_3b": 380,
    "inception_4a": 364,
    "inception_4b": 437,
    "inception_4c": 463,
    "inception_4d": 580,
    "inception_4e": 840,
    "inception_5a": 1072,
    "inception_5b": 1388,
    "predictions": 1000,
}


def test_googlenet_module_by_module():
    model = GoogLeNet()
    counted = {name: parameters(model, name) / 1024 for name in TABLE_1}
    assert counted == pytest.approx(TABLE_1, rel=0.08)
    assert counted["inception_3a"] == pytest.approx(TABLE_1["inception_3a"], abs=1)

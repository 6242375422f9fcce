"""GoogLeNet, AlexNet, VGG-16, ResNet-50 and ResNet-20: as published, and trained on integers."""

import functools
import math

import keras
import numpy as np
import pytest

from dfpkeras.models import VGG16, AlexNet, GoogLeNet, ResNet20, ResNet50


def parameters(model, below=None):
    """Number of trainable parameters of a model, or of its layers whose names begin with
    `below`."""
    return sum(
        math.prod(weights.shape)
        for layer in model.layers
        if below is None or layer.name.startswith(below)
        for weights in layer.trainable_weights
    )


# Simonyan and Zisserman's and He et al.'s as in keras.applications; BVLC's of the Caffe model zoo;
# torchvision's alexnet (61,100,840) with the paper's 384 filters in the fourth convolution; He et
# al. 2015, table 6, in millions.
TORCHVISION_ALEXNET = 61_100_840
FOURTH_CONVOLUTION = (384 - 256) * (384 * 9 + 1) + (384 - 256) * 256 * 9


@pytest.mark.slow
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


# Table 1 of Szegedy et al. 2014, column "params", in units of 1024. It differs by up to 8 % (in 4c)
# from what the filters in the same table add up to.
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "size", "features"),
    [
        (AlexNet, 63, (1, 1, 32)),
        (functools.partial(AlexNet, groups=2), 224, (6, 6, 32)),
        (GoogLeNet, 32, (1, 1, 128)),
        (GoogLeNet, 97, (4, 4, 128)),
        (VGG16, 32, (1, 1, 64)),
    ],
)
def test_shapes_of_narrow_networks(build, size, features):
    options = {"input_shape": (size, size, 3), "alpha": 1 / 8}
    assert build(**options, include_top=False).output_shape == (None, *features)
    model = build(**options, include_top=False, pooling="max")
    assert model.output_shape == (None, features[-1])
    model = build(**options, classes=5, name="mine")
    assert (model.output_shape, model.name) == ((None, 5), "mine")
    assert model.get_layer("predictions").activation is keras.activations.softmax


def test_pooling_without_top():
    options = {"include_top": False, "input_shape": (64, 64, 3), "alpha": 0.1}
    x = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    model = VGG16(**options, pooling="avg")
    features = keras.Model(model.inputs[0], model.get_layer("block5_pool").output)(x)
    np.testing.assert_allclose(model(x), np.mean(features, axis=(1, 2)), rtol=1e-5)
    maximum = VGG16(**options, pooling="max")
    maximum.set_weights(model.get_weights())
    np.testing.assert_array_equal(maximum(x), np.max(features, axis=(1, 2)))
    with pytest.raises(ValueError, match=r"`pooling` must be .*pooling='mean'"):
        VGG16(**options, pooling="mean")


@pytest.mark.slow
def test_grouped_convolutions():
    model = AlexNet(groups=2, input_shape=(64, 64, 3), alpha=0.11)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    assert [layer.filters for layer in convolutions] == [10, 28, 42, 42, 28]
    assert AlexNet(groups=2).get_layer("conv1").output.shape == (None, 55, 55, 96)


def test_initial_weights_of_alexnet():
    model = AlexNet(input_shape=(64, 64, 3), alpha=0.25)
    deviation = {layer.name: np.std(layer.kernel) for layer in model.layers if layer.weights}
    assert deviation.pop("conv1") == pytest.approx(0.01, rel=0.05)
    assert list(deviation.values()) == pytest.approx([0.02] * 7, rel=0.05)
    ones = [layer.name for layer in model.layers if layer.weights and np.all(layer.bias == 1)]
    assert ones == ["conv2", "conv4", "conv5", "fc6", "fc7"]


@pytest.mark.slow
def test_auxiliary_heads():
    model = GoogLeNet(auxiliary_heads=True, classes=9, alpha=0.25)
    assert {name: y.shape for name, y in model.output.items()} == dict.fromkeys(
        ("logits", "auxiliary_1", "auxiliary_2"), (None, 9)
    )
    for number, module in ((1, "4a"), (2, "4d")):
        pool = model.get_layer(f"auxiliary_{number}_pool")
        assert pool.input is model.get_layer(f"inception_{module}_concat").output
        assert (pool.pool_size, pool.strides) == ((5, 5), (3, 3))
        assert pool.output.shape[1:3] == (4, 4)
    small = GoogLeNet(auxiliary_heads=True, input_shape=(32, 64, 3), alpha=0.25)
    assert small.get_layer("auxiliary_1_pool").pool_size == (2, 4)
    alone = keras.Model(model.inputs, model.output["logits"])
    assert not [layer for layer in alone.layers if layer.name.startswith("auxiliary")]
    with pytest.raises(ValueError, match=r"`auxiliary_heads=True`.*include_top=True"):
        GoogLeNet(auxiliary_heads=True, include_top=False)


@pytest.mark.slow
def test_batch_norm_replaces_local_response_normalization():
    model = GoogLeNet(batch_norm=True, alpha=0.1, input_shape=(32, 32, 3))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == kinds.count("BatchNormalization") == 57
    assert "LocalResponseNormalization" not in kinds
    assert not any(layer.use_bias for layer in model.layers if type(layer).__name__ == "Conv2D")


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (AlexNet, {"input_shape": (62, 64, 3)}, "AlexNet .* at least 63x63 .*62, 64, 3"),
        (GoogLeNet, {"input_shape": (32, 31, 3)}, "GoogLeNet .* at least 32x32 .*32, 31, 3"),
        (VGG16, {"input_shape": (31, 32, 3)}, "VGG16 .* at least 32x32 "),
        (ResNet20, {"input_shape": (7, 8, 3)}, "ResNet20 .* at least 8x8 "),
        (GoogLeNet, {"input_shape": (None, None, 3)}, "`input_shape` of GoogLeNet.*None, None"),
        (VGG16, {"input_shape": (32, 32)}, r"`input_shape` of VGG16.*\(32, 32\)"),
        (AlexNet, {"alpha": 0}, "`alpha` must be above 0.*alpha=0"),
        (AlexNet, {"groups": 3}, "`groups` of AlexNet must be 1 or 2.*groups=3"),
    ],
)
def test_wrong_arguments(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.slow
def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    try:
        for build, features in ((AlexNet, 32), (GoogLeNet, 128), (VGG16, 64)):
            model = build(include_top=False, alpha=1 / 8, input_shape=(1, 64, 97))
            assert model.output_shape[1] == features
            assert model.layers[1].data_format == "channels_first"
        residual = ResNet20(include_top=False, input_shape=(3, 16, 24))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert residual.output_shape == (None, 64, 4, 6)

"""The published networks, narrow and on small images, trained on integers as in float32."""

import collections
import functools

import keras
import numpy as np
import pytest
from keras_support import dtype_policy, float32_twin, random_array

import dfpkeras
from dfpkeras.models import VGG16, AlexNet, GoogLeNet, ResNet20, ResNet50
from dfpkeras.ops.kernel_hits import hits

pytestmark = pytest.mark.slow

layers = keras.layers

CLASSES = 3
BATCH = 8
NAMES = ("logits", "auxiliary_1", "auxiliary_2")

#: {id: (constructor, side of the images)}
NETWORKS = {
    "alexnet": (functools.partial(AlexNet, alpha=0.1), 63),
    "alexnet-grouped": (functools.partial(AlexNet, alpha=0.1, groups=2), 63),
    "googlenet": (functools.partial(GoogLeNet, alpha=0.1, auxiliary_heads=True), 32),
    "googlenet-bn": (functools.partial(GoogLeNet, alpha=0.1, batch_norm=True), 32),
    "vgg16": (functools.partial(VGG16, alpha=0.1), 32),
    "resnet20": (ResNet20, 16),
}

# A ReLU whose argument is near 0 passes a gradient under one policy and not under the other, and
# batch norm of few numbers spreads that: noise of 1e-4 of the images changes the update of float32
# by 4 % in this ResNet-20 and by 18 % in this GoogLeNet with batch norm.
UPDATE_TOLERANCE = {
    "alexnet": 0.01,
    "alexnet-grouped": 0.01,
    "vgg16": 0.1,
    "googlenet": 0.15,
    "resnet20": 0.25,
    "googlenet-bn": 0.5,
}


def built(name, **options):
    build, size = NETWORKS[name]
    options = {"classes": CLASSES, "classifier_activation": None} | options
    return build(input_shape=(size, size, 3), **options)


def images(name, batch=BATCH):
    size = NETWORKS[name][1]
    return random_array(batch, size, size, 3)


def targets(model):
    labels = np.arange(BATCH) % CLASSES
    return dict.fromkeys(NAMES, labels) if isinstance(model.output, dict) else labels


def compiled(model, eagerly):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"loss": loss}
    if isinstance(model.output, dict):
        options = {"loss": dict.fromkeys(NAMES, loss), "loss_weights": [1, 0.3, 0.3]}
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=eagerly, **options)
    return model


def without_dropout(model):
    """Its random numbers would differ between the two models."""
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0
    return model


def products(model):
    """Number of layers of a model that compute products, by kind of kernel."""
    kinds = collections.Counter()
    for layer in model.layers:
        kinds["conv"] += isinstance(layer, layers.Conv2D)
        kinds["dense"] += isinstance(layer, layers.Dense)
    return kinds


def update_of_a_step(model, name, eagerly):
    """The loss of one step, and its change of each trainable parameter."""
    before = [weights.numpy() for weights in model.trainable_weights]
    loss = compiled(model, eagerly).train_on_batch(images(name), targets(model))
    after = [weights.numpy() for weights in model.trainable_weights]
    changes = [(new - old).ravel() for new, old in zip(after, before, strict=True)]
    return np.ravel(loss)[0], np.concatenate(changes)


# Graphs of GoogLeNet take half a minute to trace; test_topologies.py has similar ones.
@pytest.mark.parametrize(
    ("name", "eagerly"), [(name, True) for name in NETWORKS] + [("alexnet-grouped", False)]
)
def test_a_step_on_integers_follows_float32(name, eagerly):
    with dtype_policy():
        model = without_dropout(built(name))
        twin = without_dropout(float32_twin(model))
        loss, update = update_of_a_step(model, name, eagerly)
    kinds = products(model)
    for kind in ("conv", "dense"):
        assert hits[f"{kind}_forward"] == hits[f"{kind}_backward_weights"] == kinds[kind]
    # The images need no gradient, and a graph computes none.
    assert hits["conv_backward_data"] == kinds["conv"] - (0 if eagerly else 1)
    assert hits["dense_backward_data"] == kinds["dense"]
    twin_loss, twin_update = update_of_a_step(twin, name, eagerly)
    assert abs(loss - twin_loss) < 0.01
    difference = np.linalg.norm(update - twin_update) / np.linalg.norm(twin_update)
    assert difference < UPDATE_TOLERANCE[name]


def test_the_report_of_a_grouped_alexnet():
    with dtype_policy():
        model = built("alexnet-grouped")
        model(images("alexnet-grouped"))
        rows = dfpkeras.report(model).rows
    computes = {row.path.removeprefix("alexnet/"): row.computes for row in rows}
    integer = {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "predictions"}
    assert {computes[name] for name in integer | {"pool5", "flatten"}} == {"int16"}
    assert {computes[name] for name in ("norm1", "norm2", "pool1", "pool2")} == {"float32"}


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_is_that_of_the_papers(name):
    rates = {
        layer.name: layer.rate for layer in built(name).layers if isinstance(layer, layers.Dropout)
    }
    auxiliary = {"auxiliary_1_dropout": 0.7, "auxiliary_2_dropout": 0.7}
    assert (
        rates
        == {
            "alexnet": {"dropout6": 0.5, "dropout7": 0.5},
            "alexnet-grouped": {"dropout6": 0.5, "dropout7": 0.5},
            "googlenet": {"dropout": 0.4} | auxiliary,
            "googlenet-bn": {"dropout": 0.4},
            "vgg16": {"dropout1": 0.5, "dropout2": 0.5},
            "resnet20": {},
        }[name]
    )


@pytest.mark.parametrize("name", ["alexnet-grouped", "googlenet"])
def test_a_saved_model_is_the_same(name, tmp_path):
    with dtype_policy():
        model = built(name)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    for theirs, ours in zip(
        keras.tree.flatten(loaded(images(name))),
        keras.tree.flatten(model(images(name))),
        strict=True,
    ):
        np.testing.assert_array_equal(theirs, ours)
    assert isinstance(loaded.output, type(model.output))


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "vgg16", "resnet20"])
def test_weights_of_a_file(name, tmp_path):
    model, path = built(name), tmp_path / "model.weights.h5"
    model.save_weights(path)
    twin = built(name, weights=path)
    for theirs, ours in zip(twin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(theirs, ours)
    with pytest.raises(ValueError, match=r"`weights`.*path.*weights='.*absent.weights.h5'"):
        built(name, weights=tmp_path / "absent.weights.h5")


def test_vgg16_takes_the_weights_of_keras_applications(tmp_path):
    options = {"include_top": False, "weights": None, "input_shape": (32, 32, 3), "pooling": "avg"}
    theirs = keras.applications.VGG16(**options)
    theirs.save_weights(tmp_path / "vgg16.weights.h5")
    ours = VGG16(**options | {"weights": tmp_path / "vgg16.weights.h5"})
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    np.testing.assert_array_equal(ours(images("vgg16")), theirs(images("vgg16")))


def test_strides_of_resnet50():
    options = {"include_top": False, "input_shape": (64, 64, 3)}
    old, new = ResNet50(**options), ResNet50(**options, version="v1.5")
    assert [w.path for w in new.weights] == [w.path for w in old.weights]
    strided = {
        version: {layer.name for layer in model.layers if getattr(layer, "strides", 1) == (2, 2)}
        for version, model in (("v1", old), ("v1.5", new))
    }
    stages = ("conv3", "conv4", "conv5")
    shared = {"conv1_conv", "pool1_pool"} | {f"{stage}_block1_0_conv" for stage in stages}
    assert strided["v1"] == shared | {f"{stage}_block1_1_conv" for stage in stages}
    assert strided["v1.5"] == shared | {f"{stage}_block1_2_conv" for stage in stages}
    assert new.get_layer("conv3_block1_2_conv").input.shape[1:3] == (16, 16)
    assert new.output_shape == old.output_shape
    with pytest.raises(ValueError, match=r"`version`.*'v1', 'v1.5'.*version='v2'"):
        ResNet50(version="v2")

"""Layers that are too small to gain from integers stay float32, and `report` says so."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import dtype_policy, random_array

import dfpkeras
from dfpkeras.integration.registry import family_of
from dfpkeras.integration.small_layers import LEAST_NUMBERS
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers

pytestmark = pytest.mark.small_layers

SMALL = "its latest call was too small to gain"


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


def least(layer):
    return family_of(layer).least_multiply_adds


def row_of(layer):
    return dfpkeras.report(layer).rows[0]


PRODUCTS = {
    "dense": (lambda: layers.Dense(100), lambda n: (n // 100_000, 1000)),
    "einsum": (
        lambda: layers.EinsumDense("abc,cd->abd", (10, 100)),
        lambda n: (n // 10**6, 10, 1000),
    ),
    "convolution": (lambda: layers.Conv2D(10, 1), lambda n: (n // 1000, 5, 5, 4)),
    "depthwise": (lambda: layers.DepthwiseConv2D(2), lambda n: (n // 1000, 6, 6, 10)),
    "transposed": (lambda: layers.Conv1DTranspose(10, 2), lambda n: (n // 1000, 10, 5)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_judged_by_their_multiply_adds(name):
    make, shape = PRODUCTS[name]
    layer = make()
    images, *others = shape(least(layer))
    layer(random_array(images - 1, *others))
    row = row_of(layer)
    assert (row.computes, not hits) == ("float32", True)
    assert row.reason.startswith(SMALL) and f"{least(layer):,}" in row.reason
    layer(random_array(images, *others))
    assert row_of(layer).computes == "int16"
    assert hits


@pytest.mark.parametrize(
    "make", [layers.BatchNormalization, layers.LayerNormalization, layers.ReLU], ids=str
)
def test_others_are_judged_by_their_numbers(make):
    layer = make()
    layer(random_array(LEAST_NUMBERS // 8 - 1, 8))
    assert row_of(layer).computes == "float32"
    layer(random_array(LEAST_NUMBERS // 8, 8))
    assert row_of(layer).computes == "int16"


def test_what_has_integers_goes_on_with_them():
    first, second = layers.Dense(100, activation="relu"), layers.Dense(3)
    second(first(random_array(least(first) // 100_000, 1000)))
    assert row_of(second).computes == "int16"


def test_a_graph_for_any_number_of_images_is_judged_as_one_for_32():
    for channels, computes in ((312, "float32"), (313, "int16")):
        layer = layers.Dense(1000)
        assert (32 * channels * 1000 >= least(layer)) == (computes == "int16")
        call = tf.function(layer, input_signature=[tf.TensorSpec((None, channels))])
        call(random_array(2, channels))
        assert row_of(layer).computes == computes


def test_images_of_unknown_size_are_not_judged_small():
    layer = layers.Conv2D(2, 3)
    call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    call(random_array(1, 4, 4, 3))
    assert row_of(layer).computes == "int16"


def test_a_policy_for_every_size(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, dtype=dfpkeras.DFP16Policy(small_layers="int16"))]
    )
    x = random_array(2, 4)
    expected = model(x)
    assert hits["dense_forward"] == 1
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), expected)
    assert hits["dense_forward"] == 2
    assert model.layers[0].dtype_policy.name == "dfp16(small_layers=int16)"


def test_strict_policies_say_that_a_layer_is_small():
    with pytest.raises(ValueError, match=f"got float32: {SMALL}: 24 multiply-adds"):
        layers.Dense(3, dtype="dfp16(strict=True)")(random_array(2, 4))


@pytest.mark.parametrize("value", ["int8", None, 16])
def test_wrong_arguments(value):
    with pytest.raises(ValueError, match="small_layers: expected one of float32, int16, got"):
        dfpkeras.DFP16Policy(small_layers=value)

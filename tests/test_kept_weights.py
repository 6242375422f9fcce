"""Weights that stay quantised from one inference to the next."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_support import DenseCell, dtype_policy, random_array

import dfpkeras
from dfpkeras.backend import current
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.kept_weights import KeptWeights
from dfpkeras.ops.kernel_hits import hits

X = random_array(4, 8, 8, 3)


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


def make_model():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, name="conv"),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def expected(model):
    """The prediction of a model that never had other weights."""
    fresh = make_model()
    fresh.set_weights(model.get_weights())
    return fresh.predict(X, verbose=0)


def quantized_by(action):
    before = hits["quantize_weights"]
    action()
    return hits["quantize_weights"] - before


def test_inference_quantises_weights_once():
    model = make_model()
    assert quantized_by(lambda: model.predict(X, batch_size=1, verbose=0)) == 3
    assert quantized_by(lambda: model.predict(X, batch_size=1, verbose=0)) == 0
    np.testing.assert_array_equal(model.predict(X, verbose=0), expected(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.fit(X, random_array(4, 5), verbose=0),
        lambda model: model.set_weights([1.5 * w for w in model.get_weights()]),
        lambda model: [v.assign_add(0.25 + 0 * v) for v in model.trainable_variables],
        lambda model: model.get_layer("conv").kernel.value.scatter_nd_update([[0, 0, 0, 0]], [9.0]),
    ],
    ids=["fit", "assign", "assign_add", "scatter"],
)
def test_changed_weights_are_quantised_again(change):
    model = make_model()
    before = model.predict(X, verbose=0)
    for _ in range(3):
        change(model)
        after = model.predict(X, verbose=0)
        np.testing.assert_array_equal(after, expected(model))
    assert not np.array_equal(before, after)


def test_a_backend_that_overwrites_variables_keeps_nothing(monkeypatch):
    """Else an update would go unnoticed: the same memory with other numbers."""
    monkeypatch.setattr(current(), "overwrites_variables", True)
    model = make_model()
    for _ in range(2):
        assert quantized_by(lambda: model.predict(X, verbose=0)) == 3


def test_another_number_format_quantises_again():
    """The weights of one variable, in two formats."""
    kept, w = KeptWeights(), random_array(5, 3)
    formats = [NumberFormat(weight_bits=bits).weights for bits in (12, 5)]
    results = [kept.quantized(w, tensor_format) for tensor_format in (*formats, *formats)]
    assert [tensor.max_abs.bit_length() for tensor in results] == [12, 5, 12, 5]
    assert kept.quantized(w, formats[1]) is results[-1]


def test_a_step_of_training_keeps_nothing():
    model = make_model()
    model.predict(X, verbose=0)
    model.train_on_batch(X, random_array(4, 5))
    assert quantized_by(lambda: model.predict_on_batch(X)) == 3
    model.train_on_batch(X, random_array(4, 5))
    in_training = dfpkeras.memory_stats()["in_use"]
    model.predict_on_batch(X)
    assert dfpkeras.memory_stats()["in_use"] > in_training


def test_a_call_that_may_be_training_keeps_nothing():
    model = make_model()
    assert quantized_by(lambda: [model(X) for _ in range(2)]) == 6


def test_a_loop_quantises_weights_once():
    with dtype_policy("dfp16"):
        model = keras.Sequential([keras.Input((9, 4)), layers.RNN(DenseCell())])
    model.compile("sgd", "mse")
    x, y = random_array(3, 9, 4), random_array(3, 4)
    for _ in range(3):
        assert quantized_by(lambda: model.train_on_batch(x, y)) == 2
    after = model.predict_on_batch(x)
    model.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict_on_batch(x), after)


def test_weights_that_a_loop_updates_are_quantised_again():
    with dtype_policy("dfp16"):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    kernel, x = model.trainable_variables[0].value, random_array(2, 4)

    @tf.function
    def updates():
        results = tf.TensorArray(tf.float32, 3)
        for i in tf.range(3):
            kernel.assign_add(tf.ones_like(kernel))
            results = results.write(i, model(x))
        return results.stack()

    first, *others = updates()
    for i, result in enumerate(others, 1):
        assert np.allclose(result - first, i * x.sum(1, keepdims=True), atol=1e-2)


def test_released_memory_holds_no_weights():
    model = make_model()
    model.predict(X, verbose=0)
    held = dfpkeras.memory_stats()["in_use"]
    dfpkeras.release_memory()
    assert dfpkeras.memory_stats()["in_use"] < held
    np.testing.assert_array_equal(model.predict(X, verbose=0), expected(model))


def test_a_copied_variable_has_its_own_weights():
    model = make_model()
    model.predict(X, verbose=0)
    kept = model.get_layer("conv").kernel._dfp_kept_weights
    assert copy.deepcopy(kept)._known is None is not kept._known

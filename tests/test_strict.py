"""`DFP16Policy(strict=True)`: a layer that computes in float32 is an error that says why."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras_support import dtype_policy, random_array

import dfpkeras
from dfpkeras.integration.policy import DFP16Policy, policy_of

layers = keras.layers

STRICT = "dfp16(strict=True)"


@pytest.fixture(autouse=True)
def strict():
    with dtype_policy(STRICT):
        yield


def network(*first):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *first,
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5),
            layers.Softmax(dtype="float32"),
        ]
    )


def test_a_network_of_integers_trains_and_leaves(tmp_path):
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(random_array(4, 8, 8, 3), np.zeros(4), verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    dfpkeras.to_float32(model)(random_array(4, 8, 8, 3))
    with dfpkeras.float32_only():
        model(random_array(4, 8, 8, 3))


class OwnModel(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


def test_models_connect_layers():
    OwnModel(OwnModel(network()))(random_array(1, 8, 8, 3))


class OwnConvolution(layers.Conv2D):
    def call(self, inputs):
        return keras.ops.conv(inputs, self.kernel)


CALLS = {
    "no integer path": lambda x: network(layers.GaussianNoise(0.1)),
    "no integer path, after the network": lambda x: layers.Softmax()(network()(x)),
    "no integers to pass on": lambda x: network(layers.MaxPooling2D())(x),
    "its own computation": lambda x: OwnConvolution(2, 3)(x),
}
REASONS = {
    "no integer path": "GaussianNoise holds no weights, no integer path",
    "no integer path, after the network": "Softmax holds no weights, no integer path",
    "no integers to pass on": "the input of its latest call had no integers",
    "its own computation": "it overrides Keras' computation and has not called it yet",
}


@pytest.mark.parametrize("name", CALLS)
def test_float32_layers_are_errors_with_their_reason(name):
    message = rf"expected integers, as its policy .*strict=True.* got float32: {REASONS[name]}"
    with pytest.raises(ValueError, match=message):
        CALLS[name](random_array(1, 8, 8, 3))


def test_an_error_in_fit_leaves_the_weights():
    model = network()
    model.add(layers.Softmax(dtype="float32"))
    before = model.get_weights()
    model.layers[-1].dtype_policy = DFP16Policy(strict=True)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"layer 'softmax\w*' \(Softmax\)"):
        model.fit(random_array(4, 8, 8, 3), np.zeros(4), verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_xla_is_refused_by_strict_layers():
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    compiled = tf.function(model, jit_compile=True)
    with pytest.raises(ValueError, match="compiled by XLA"):
        compiled(random_array(2, 3))


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda policy: pickle.loads(pickle.dumps(policy)),
        lambda policy: keras.dtype_policies.deserialize(keras.dtype_policies.serialize(policy)),
        lambda policy: keras.dtype_policies.get(policy.name),
    ],
)
def test_copies_are_as_strict(copied):
    for policy in (DFP16Policy(strict=True), DFP16Policy(strict=True, weight_bits=9)):
        assert copied(policy) == policy != DFP16Policy(weight_bits=policy.number_format.weight_bits)
        assert copied(policy).routing.strict


def test_a_loaded_model_is_as_strict(tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    with dtype_policy("float32"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert policy_of(loaded.layers[0]) == DFP16Policy(strict=True)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_wrong_arguments(value):
    with pytest.raises(TypeError, match="strict: expected True or False, got"):
        DFP16Policy(strict=value)
    with pytest.raises(TypeError, match="strict: expected True or False, got"):
        keras.config.set_dtype_policy(f"dfp16(strict={value})")

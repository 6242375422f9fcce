"""The dtype policy "dfp16": getting, setting, and every way of saving and copying it."""

import copy
import json
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
    small_cnn,
)

from dfpkeras.integration.policy import DFP16Policy, policy_of
from dfpkeras.ops.kernel_hits import hits


@pytest.fixture(autouse=True)
def restore_policy():
    with dtype_policy("float32"):
        yield


@pytest.mark.parametrize(
    "setter",
    [
        keras.config.set_dtype_policy,
        keras.mixed_precision.set_global_policy,
        keras.mixed_precision.set_dtype_policy,
    ],
)
def test_global_policy_is_set_and_restored(setter):
    setter("dfp16")
    assert isinstance(keras.config.dtype_policy(), DFP16Policy)
    layer = keras.layers.Dense(3)
    assert isinstance(layer.dtype_policy, DFP16Policy)
    assert (layer.compute_dtype, layer.variable_dtype) == ("float32", "float32")
    setter("float32")
    assert type(keras.config.dtype_policy()) is keras.DTypePolicy
    plain = keras.layers.Dense(3)
    assert type(plain.dtype_policy) is keras.DTypePolicy
    plain(random_array(2, 3))
    assert not hits
    layer(random_array(2, 3))
    assert hits["dense_forward"] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.DTypePolicy("dfp16"),
        lambda: keras.FloatDTypePolicy("dfp16"),
        lambda: keras.dtype_policies.get("dfp16"),
        lambda: DFP16Policy(),
        lambda: copy.deepcopy(DFP16Policy()),
        lambda: pickle.loads(pickle.dumps(DFP16Policy())),
        lambda: keras.dtype_policies.deserialize(keras.dtype_policies.serialize(DFP16Policy())),
        lambda: DFP16Policy.from_config({"name": None}),
    ],
)
def test_every_way_to_a_policy_object(make):
    policy = make()
    assert type(policy) is DFP16Policy
    assert policy.name == "dfp16"
    assert (policy.compute_dtype, policy.variable_dtype) == ("float32", "float32")
    assert policy.quantization_mode is None
    assert repr(policy) == '<DFP16Policy "dfp16">'


def test_default_policy_object_follows_the_global_policy():
    keras.config.set_dtype_policy("dfp16")
    assert type(keras.DTypePolicy()) is DFP16Policy
    copies = copy.deepcopy(keras.DTypePolicy("float32")), pickle.dumps(keras.DTypePolicy("float16"))
    assert copies[0].name == "float32" and type(copies[0]) is keras.DTypePolicy
    assert type(pickle.loads(copies[1])) is keras.DTypePolicy


def test_equality():
    assert DFP16Policy() == keras.DTypePolicy("dfp16")
    assert DFP16Policy() != keras.DTypePolicy("float32")
    assert keras.DTypePolicy("float32") != DFP16Policy()


def test_clear_session_resets_the_policy():
    keras.config.set_dtype_policy("dfp16")
    keras.utils.clear_session(free_memory=False)
    assert keras.config.dtype_policy().name == "float32"


def test_wrong_names():
    with pytest.raises(ValueError, match=r"Argument `name` .* 'dfp16'.*name='float32'"):
        DFP16Policy("float32")
    with pytest.raises(ValueError, match="dfp17"):
        keras.config.set_dtype_policy("dfp17")


def test_a_layer_opts_in_or_out():
    outside = keras.layers.Dense(3, dtype="dfp16")
    keras.config.set_dtype_policy("dfp16")
    inside = keras.layers.Dense(3, dtype="float32")
    inside(random_array(2, 3))
    assert not hits
    outside(random_array(2, 3))
    assert hits["dense_forward"] == 1


def nested_model():
    features = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)], name="features"
    )
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(features(inputs))
    outputs = keras.layers.Dense(5, dtype="float32", name="head")(x)
    return keras.Model(inputs, outputs)


def through_file(name):
    def save_and_load(model, tmp_path):
        model.save(tmp_path / name)
        return keras.saving.load_model(tmp_path / name)

    return save_and_load


def through_weights_file(model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = keras.models.clone_model(model)
    fresh.load_weights(tmp_path / "model.weights.h5")
    return fresh


def with_weights_of(make):
    def copied(model, tmp_path):
        fresh = make(model)
        fresh.set_weights(model.get_weights())
        return fresh

    return copied


ROUND_TRIPS = {
    "keras": through_file("model.keras"),
    "h5": through_file("model.h5"),
    "weights": through_weights_file,
    "clone": with_weights_of(keras.models.clone_model),
    "json": with_weights_of(lambda model: keras.models.model_from_json(model.to_json())),
    "config": with_weights_of(
        lambda model: type(model).from_config(json.loads(json.dumps(model.get_config())))
    ),
    "pickle": lambda model, tmp_path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, tmp_path: copy.deepcopy(model),
}


@pytest.mark.slow
@pytest.mark.parametrize("trip", ROUND_TRIPS)
@pytest.mark.parametrize("make", [small_cnn, nested_model])
@pytest.mark.parametrize("policy_afterwards", ["dfp16", "float32"])
def test_round_trips_of_models(trip, make, policy_afterwards, tmp_path):
    with dtype_policy():
        model = make()
    x = random_array(2, 8, 8, 3)
    expected = model(x)
    with dtype_policy(policy_afterwards):
        loaded = ROUND_TRIPS[trip](model, tmp_path)
        expected_hits = sum(isinstance(y.dtype_policy, DFP16Policy) for y in computing(model))
        assert expected_hits == {"small_cnn": 3, "nested_model": 1}[make.__name__]
        assert [policy_of(y) for y in computing(loaded)] == [policy_of(y) for y in computing(model)]
        hits.reset()
        np.testing.assert_array_equal(loaded(x), expected)
        assert hits["conv_forward"] + hits["dense_forward"] == expected_hits


def computing(model):
    """The convolutions and dense layers of a model, in its order of layers."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return [y for y in model._flatten_layers() if isinstance(y, kinds)]


def test_saved_layers_keep_keras_class_names():
    with dtype_policy():
        config = keras.layers.serialize(keras.layers.Conv2D(4, 3))
    assert (config["module"], config["class_name"]) == ("keras.layers", "Conv2D")
    assert config["config"]["dtype"]["registered_name"] == "dfpkeras>DFP16Policy"


@pytest.mark.parametrize(
    "config",
    [
        {"module": "dfpkeras.policy", "class_name": "DFP16Policy", "config": {"name": "dfp16"}},
        {"module": "dfpkeras.policy", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    ],
)
def test_the_policy_in_files_of_every_version(config):
    policy = keras.dtype_policies.deserialize(config | {"registered_name": "dfpkeras>DFP16Policy"})
    assert type(policy) is DFP16Policy


LOAD_WITHOUT_DFPKERAS = """
import sys
sys.modules["dfpkeras"] = None  # as if it were not installed
import keras, numpy as np
models = [keras.saving.load_model(name) for name in ("m.keras", "m.h5")]
models.append(keras.models.model_from_json(open("m.json").read()))
models[2].set_weights(models[0].get_weights())
for model in models:
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
optimizer = models[0].optimizer
assert int(optimizer.iterations.numpy()) == 1
assert any(np.any(v.numpy()) for v in optimizer.variables if "momentum" in v.path)
x = np.load("x.npy")
np.save("y.npy", np.stack([model.predict(x, verbose=0) for model in models]))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_where_dfpkeras_is_not_imported_saved_models_load_as_float32(
    tmp_path, monkeypatch, run_python
):
    x = random_array(4, 8, 8, 3)
    with dtype_policy():
        model = nested_model()
    model.compile(keras.optimizers.SGD(0.01, 0.9), keras.losses.MeanSquaredError())
    model.train_on_batch(x, np.zeros((4, 5), np.float32))
    monkeypatch.chdir(tmp_path)
    model.save("m.keras")
    model.save("m.h5")
    Path("m.json").write_text(model.to_json())
    np.save("x.npy", x)
    result = run_python(LOAD_WITHOUT_DFPKERAS)
    assert result.returncode == 0, result.stderr
    expected = model.predict(x, verbose=0)
    for y in np.load("y.npy"):
        assert 0 < relative_error(y, expected) < QUANTIZATION_TOLERANCE


@keras.saving.register_keras_serializable("test_policy")
class Block(keras.layers.Layer):
    """A layer of two dense layers that share its dtype policy, which may be a map."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(4, dtype=self.dtype_policy, name="first")
        self.second = keras.layers.Dense(4, dtype=self.dtype_policy, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 4))

    def call(self, inputs):
        return self.second(self.first(inputs))

    def get_config(self):  # Keras writes none by itself for arguments like a policy map
        return super().get_config()


@pytest.mark.parametrize("default", [None, "float32", "dfp16"])
def test_policy_map(default, tmp_path):
    policies = keras.dtype_policies.DTypePolicyMap(default, {})
    policies[".*first"] = "dfp16"
    policies[".*second"] = "float32"
    model = keras.Sequential([keras.Input((3,)), Block(dtype=policies, name="block")])
    # Keys are patterns: Keras gives a layer another path when it loads the model.
    x = random_array(2, 3)
    expected = model(x)
    assert hits["dense_forward"] == 1
    model.save(tmp_path / "mapped.keras")
    loaded = keras.saving.load_model(tmp_path / "mapped.keras")
    first, second = loaded.get_layer("block").first, loaded.get_layer("block").second
    assert type(policy_of(first)) is DFP16Policy
    # A map without a default falls back to the global policy when it is loaded.
    assert type(policy_of(second)) is keras.DTypePolicy
    np.testing.assert_array_equal(loaded(x), expected)
    assert hits["dense_forward"] == 2
    # Saving a map without a default clears the names of Keras' own policies, but not of ours.
    assert policies["block/first"].name == "dfp16"


def test_weights_are_interchangeable_with_float32(tmp_path):
    with dtype_policy():
        integer = small_cnn()
    assert all(w.dtype == "float32" for w in integer.weights)
    float32 = float32_twin(integer)
    x = random_array(4, 8, 8, 3)
    assert relative_error(integer(x), float32(x)) < QUANTIZATION_TOLERANCE
    float32.layers[0].kernel.assign(-float32.layers[0].kernel)
    float32.save_weights(tmp_path / "float32.weights.h5")
    integer.load_weights(tmp_path / "float32.weights.h5")
    assert relative_error(integer(x), float32(x)) < QUANTIZATION_TOLERANCE


def test_quantized_policies_build_on_it():
    layer = keras.layers.Dense(4, dtype="dfp16")
    layer.build((None, 3))
    layer.quantize("int8")
    assert layer.dtype_policy.name == "int8_from_dfp16"
    assert layer(random_array(2, 3)).shape == (2, 4)
    assert not hits


# Keras' NumPy backend runs without TensorFlow; it imports jax (only for FFT and image operations),
# for which a stand-in is enough.
WITHOUT_TENSORFLOW = """
import importlib.abc, importlib.machinery, sys
from unittest import mock

class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "jax":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return mock.MagicMock(name=spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, StandIn())
sys.modules["tensorflow"] = None
import keras, numpy as np, pytest
import dfpkeras
assert keras.backend.backend() == "numpy"
a = dfpkeras.quantize(np.full((2, 3), 0.5, "float32"))
result = dfpkeras.kernels.matmul(a, a, transpose_b=True)
np.testing.assert_array_equal(result, np.full((2, 2), 0.75, "float32"))
layer = keras.layers.Dense(2)
assert layer(np.ones((1, 3), "float32")).shape == (1, 2)
assert [row.computes for row in dfpkeras.report(layer).rows] == ["float32"]
message = r"'dfp16' has no integer .*: backend='numpy'. Set KERAS_BACKEND=.*tensorflow"
for ask in (
    lambda: keras.config.set_dtype_policy("dfp16"),
    lambda: keras.layers.Dense(2, dtype="dfp16"),
    lambda: dfpkeras.layers.Dense(2),
):
    with pytest.raises(RuntimeError, match=message):
        ask()
"""


@pytest.mark.slow
def test_another_keras_backend_gets_kernels_and_a_clear_error(run_python):
    done = run_python(WITHOUT_TENSORFLOW, KERAS_BACKEND="numpy")
    assert done.returncode == 0, done.stderr

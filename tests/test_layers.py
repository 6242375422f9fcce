"""The explicit layers: integer by default, whatever the global policy."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras_support import QUANTIZATION_TOLERANCE, dtype_policy, random_array, relative_error

import dfpkeras
from dfpkeras.integration.policy import DFP16Policy
from dfpkeras.ops.kernel_hits import hits

LAYERS = {
    "Conv2D": (lambda **options: dfpkeras.layers.Conv2D(4, 3, **options), (2, 6, 6, 3)),
    "Conv1D": (lambda **options: dfpkeras.layers.Conv1D(4, 3, **options), (2, 6, 3)),
    "Dense": (lambda **options: dfpkeras.layers.Dense(4, **options), (2, 6)),
}


@pytest.fixture(autouse=True, params=["float32", "dfp16"])
def global_policy(request):
    with dtype_policy(request.param):
        yield


@pytest.mark.parametrize("name", LAYERS)
def test_default_policy_is_dfp16(name):
    make, shape = LAYERS[name]
    layer, x = make(activation="tanh", name="mine"), random_array(*shape)
    assert isinstance(layer, getattr(keras.layers, name))
    assert isinstance(layer.dtype_policy, DFP16Policy)
    y = layer(x)
    assert hits["conv_forward"] + hits["dense_forward"] == 1
    twin = getattr(keras.layers, name).from_config(layer.get_config() | {"dtype": "float32"})
    twin.build(shape)
    twin.set_weights(layer.get_weights())
    assert relative_error(y, twin(x)) < QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("name", LAYERS)
def test_an_explicit_dtype_wins(name):
    make, shape = LAYERS[name]
    layer = make(dtype="float32")
    layer(random_array(*shape))
    assert not hits
    assert type(type(layer).from_config(layer.get_config()).dtype_policy) is keras.DTypePolicy


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "json", "clone", "pickle", "deepcopy"])
@pytest.mark.parametrize("name", LAYERS)
def test_round_trips(name, how, tmp_path):
    make, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape[1:]), make(name="mine")])
    x = random_array(*shape)
    expected = model(x)
    if how == "file":
        model.save(tmp_path / "explicit.keras")
        loaded = keras.saving.load_model(tmp_path / "explicit.keras")
    elif how == "json":
        loaded = keras.models.model_from_json(model.to_json())
    elif how == "clone":
        loaded = keras.models.clone_model(model)
    elif how == "pickle":
        loaded = pickle.loads(pickle.dumps(model))
    else:
        loaded = copy.deepcopy(model)
    loaded.set_weights(model.get_weights())
    assert type(loaded.get_layer("mine")) is getattr(dfpkeras.layers, name)
    hits.reset()
    np.testing.assert_array_equal(loaded(x), expected)
    assert hits["conv_forward"] + hits["dense_forward"] == 1


def test_registered_names():
    for name, (make, _) in LAYERS.items():
        config = keras.saving.serialize_keras_object(make())
        assert config["registered_name"] == f"dfpkeras>{name}"


def test_keras_checks_arguments():
    with pytest.raises(ValueError, match="filters=-1"):
        dfpkeras.layers.Conv2D(-1, 3)
    with pytest.raises(ValueError, match="units=0"):
        dfpkeras.layers.Dense(0)

"""Moving out: models that need no dfpkeras."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from every_layer import MODELS
from keras import layers
from keras_support import (
    QUANTIZATION_TOLERANCE,
    DenseCell,
    dtype_policy,
    random_array,
    relative_error,
    small_cnn,
)

import dfpkeras
from dfpkeras.ops.kernel_hits import hits

#: Loads what a process without dfpkeras can: prints its predictions.
WITHOUT_DFPKERAS = """
import sys, json
sys.modules["dfpkeras"] = None  # as if it were not installed
import keras, numpy as np
path, x = sys.argv[1], np.load(sys.argv[2])
if path.endswith(".keras"):
    y = keras.saving.load_model(path).predict(x, verbose=0)
else:
    import tensorflow as tf
    loaded = tf.saved_model.load(path)
    y = loaded.serve(x).numpy()
print(json.dumps(y.tolist()))
"""


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_computes_what_it_computes_under_float32(name):
    with dtype_policy():
        model = MODELS[name]()
    x = random_array(3, *model.input_shape[1:])
    expected = model(x)
    hits.reset()
    copy = dfpkeras.to_float32(model)
    y = copy(x)
    assert not hits
    assert {row.computes for row in dfpkeras.report(copy).rows} <= {"float32", ""}
    assert relative_error(y, expected) < 2 * QUANTIZATION_TOLERANCE
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours is not theirs
    assert dfpkeras.report(model).rows[0].computes  # the model is as it was
    np.testing.assert_array_equal(model(x), expected)


def test_every_form_of_a_policy():
    policies = keras.dtype_policies.DTypePolicyMap(dfpkeras.DFP16Policy(weight_bits=9))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, dtype="dfp16"),
            layers.Conv2D(4, 3, dtype=dfpkeras.DFP16Policy(weight_bits=9)),
            layers.Conv2D(4, 3, dtype=policies),
            layers.Dense(3, dtype="mixed_bfloat16"),
            layers.Dense(3, dtype="float64"),
        ]
    )
    found = [layer.dtype_policy for layer in dfpkeras.to_float32(model).layers]
    names = [getattr(policy, "default_policy", policy).name for policy in found]
    assert names == ["float32", "float32", "float32", "mixed_bfloat16", "float64"]


def test_a_compiled_model_stays_compiled():
    with dtype_policy():
        model = small_cnn()
        model.compile(keras.optimizers.SGD(0.25), "mse", metrics=["mae"])
    copy = dfpkeras.to_float32(model)
    assert float(copy.optimizer.learning_rate) == 0.25
    hits.reset()
    copy.train_on_batch(random_array(4, 8, 8, 3), random_array(4, 5))
    assert not hits


def test_classes_of_the_user():
    class Scaled(layers.Layer):
        """Not registered with Keras."""

        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return super().get_config() | {"factor": self.factor}

    with dtype_policy():
        cell = keras.layers.RNN(DenseCell())
        model = keras.Sequential([keras.Input((5, 3)), Scaled(2.0), cell, layers.Dense(2)])
    x = random_array(2, 5, 3)
    assert relative_error(dfpkeras.to_float32(model)(x), model(x)) < QUANTIZATION_TOLERANCE


def test_models_that_cannot_be_copied_are_refused():
    with pytest.raises(ValueError, match="model: expected a built model, got 'mine'"):
        dfpkeras.to_float32(keras.Sequential([layers.Dense(2)], name="mine"))

    class Grown(keras.Sequential):
        """Has a layer that its config does not know."""

        def get_config(self):
            config = super().get_config()
            return config | {"layers": config["layers"][:-1]}

    model = Grown([keras.Input((3,)), layers.Dense(2), layers.Dense(2)], name="grown")
    with pytest.raises(ValueError, match="got 'grown', whose copy has other weights"):
        dfpkeras.to_float32(model)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["converted", "saved", "exported"])
def test_predictions_without_dfpkeras(how, tmp_path):
    """Of a model that was trained under dfp16: converted, or saved and exported as it is."""
    with dtype_policy():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.Activation("silu"),
                layers.Conv2DTranspose(8, 3, 2),
                layers.LayerNormalization(),
                layers.Flatten(),
                layers.Dense(5),
            ]
        )
        model.compile("sgd", "mse")
        model.fit(random_array(32, 8, 8, 3), random_array(32, 5), epochs=2, verbose=0)
    x = random_array(16, 8, 8, 3, seed=1)
    path = tmp_path / ("model" if how == "exported" else "model.keras")
    np.save(tmp_path / "x.npy", x)
    if how == "exported":
        model.export(path, verbose=False)
    else:
        (dfpkeras.to_float32(model) if how == "converted" else model).save(path)
    run = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_DFPKERAS, path, tmp_path / "x.npy"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    y = np.array(json.loads(run.stdout.splitlines()[-1]), np.float32)
    assert relative_error(y, model.predict(x, verbose=0)) < 2 * QUANTIZATION_TOLERANCE
    if how == "converted":
        assert relative_error(y, dfpkeras.to_float32(model).predict(x, verbose=0)) < 1e-5

"""Local response normalisation: formula, gradient, configuration, neighbouring layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import dtype_policy, random_array, relative_error

import dfpkeras
from dfpkeras.layers import LocalResponseNormalization
from dfpkeras.ops.kernel_hits import hits

ROUNDING = 3e-6

OPTIONS = [
    {},
    {"depth_radius": 1, "bias": 0.5, "alpha": 0.7, "beta": 1.0},
    {"depth_radius": 0, "bias": 1.0, "alpha": 2.0, "beta": 0.5},
    {"depth_radius": 9, "bias": 1.0, "alpha": 0.3, "beta": -0.75},
]


def reference(x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75):
    """Krizhevsky et al. 2012, section 3.3, channel by channel in float64."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    for c in range(x.shape[-1]):
        window = x[..., max(0, c - depth_radius) : c + depth_radius + 1]
        y[..., c] = x[..., c] / (bias + alpha * np.sum(window**2, axis=-1)) ** beta
    return y


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_values(options, data_format):
    x = 5 * random_array(2, 3, 4, 7)
    layer = LocalResponseNormalization(data_format=data_format, **options)
    if data_format == "channels_last":
        y = layer(x)
    else:
        y = np.moveaxis(layer(np.moveaxis(x, -1, 1)), 1, -1)
    assert relative_error(y, reference(x, **options)) < ROUNDING


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_gradient_is_that_of_tensorflow(options, graph):
    x, dy = 5 * random_array(2, 3, 4, 7), random_array(2, 3, 4, 7, seed=1)
    layer = LocalResponseNormalization(**options)

    def gradient(function):
        with tf.GradientTape() as tape:
            inputs = tf.constant(x)
            tape.watch(inputs)
            y = function(inputs)
        return tape.gradient(y, inputs, output_gradients=tf.constant(dy))

    def theirs(inputs):
        return tf.nn.local_response_normalization(
            inputs, layer.depth_radius, layer.bias, layer.alpha, layer.beta
        )

    ours = (tf.function(gradient) if graph else gradient)(layer)
    assert relative_error(ours, gradient(theirs)) < ROUNDING


def test_configuration_round_trip(tmp_path):
    options = {"depth_radius": 3, "bias": 1.5, "alpha": 0.2, "beta": 0.6}
    layer = LocalResponseNormalization(**options, data_format="channels_first", name="norm")
    model = keras.Sequential([keras.Input((8, 2, 2)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("norm")
    assert type(loaded) is LocalResponseNormalization
    assert loaded.get_config() == layer.get_config()
    assert loaded.get_config().items() >= (options | {"data_format": "channels_first"}).items()


def test_default_data_format_is_that_of_keras():
    assert LocalResponseNormalization().data_format == "channels_last"
    keras.config.set_image_data_format("channels_first")
    try:
        assert LocalResponseNormalization().data_format == "channels_first"
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_radius": -1}, "`depth_radius`.*int of at least 0.*depth_radius=-1"),
        ({"depth_radius": 1.5}, "`depth_radius`.*int of at least 0.*depth_radius=1.5"),
        ({"bias": 0}, "`bias`.*above 0.*bias=0"),
        ({"alpha": -1e-4}, "`alpha`.*at least 0.*alpha=-0.0001"),
        ({"data_format": "last"}, "`data_format`.*channels_first.*data_format='last'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**options)


def test_between_integer_layers_it_computes_in_float32():
    with dtype_policy():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(6, 3, activation="relu", name="before"),
                LocalResponseNormalization(alpha=0.1, name="norm"),
                keras.layers.MaxPooling2D(2, name="pool"),
                keras.layers.Conv2D(5, 3, name="after"),
            ],
            name="net",
        )
        x = random_array(2, 8, 8, 3)
        before = keras.Model(model.inputs[0], model.get_layer("before").output)(x)
        normalized = keras.Model(model.inputs[0], model.get_layer("norm").output)(x)
        assert relative_error(normalized, reference(before, alpha=0.1)) < ROUNDING
        hits.reset()
        model(x)
        rows = {row.path: row for row in dfpkeras.report(model).rows}
    assert hits["conv_forward"] == 2
    assert rows["net/norm"].computes == rows["net/pool"].computes == "float32"
    assert "no integer path" in rows["net/norm"].reason
    assert rows["net/after"].computes == "int16"

"""Every kind of layer where TensorFlow transforms graphs in ways that exclude the kernels."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from every_layer import MODELS
from keras import layers
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import dfpkeras
from dfpkeras.integration import registry
from dfpkeras.integration.keras_internals import operations_of
from dfpkeras.ops.kernel_hits import hits

every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy("dfp16"):
        yield


def build(name):
    """A model, its float32 twin, and three inputs."""
    model = MODELS[name]()
    for index, weight in enumerate(model.trainable_weights):
        weight.assign(random_array(*weight.shape, seed=10 + index) / 2)
    return model, float32_twin(model), tf.constant(random_array(3, *model.input_shape[1:]))


def gradients(model, loss):
    """Those of all weights for a loss of the model, computed by a function without arguments."""
    with tf.GradientTape() as tape:
        value = loss()
    return tape.gradient(value, model.trainable_variables)


def assert_close(results, expected, tolerance):
    """Weights without effect, such as a bias before a batch norm, have small gradients."""
    scale = max(np.max(np.abs(wanted)) for wanted in expected)
    for actual, wanted in zip(results, expected, strict=True):
        assert np.any(actual) == np.any(wanted)
        assert np.max(np.abs(actual - wanted)) <= tolerance * max(
            np.max(np.abs(wanted)), 1e-3 * scale
        )


def test_there_is_a_model_for_every_layer():
    models = [make() for make in MODELS.values()]
    parts = [part for model in models for part in (*model.layers, *operations_of(model))]
    tried = {cls for part in parts for cls in type(part).mro()}
    assert not {cls for family in registry.families() for cls in family.classes} - tried


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "attention"])
def test_vectorized(name):
    """Keras' own attention is not among them: TensorFlow 2.21 vectorises its gradient to numbers
    that are wrong, or crashes, without dfpkeras as well."""
    model, twin, x = build(name)

    def run(model):
        def loss():
            return tf.reduce_sum(tf.vectorized_map(lambda row: model(row[None])[0], x) ** 2)

        return gradients(model, loss)

    assert_close(run(model), run(twin), 1e-5)
    assert "its latest call was vectorised, which loses the kernels' gradients" in {
        row.reason for row in dfpkeras.report(model).rows
    }


@pytest.mark.slow
def test_a_function_that_was_traced_before_is_vectorized():
    model, twin, x = build("convolution")

    def run(model):
        function = tf.function(model)
        function(x)
        function(x[:1])
        return gradients(
            model,
            lambda: tf.reduce_sum(tf.vectorized_map(lambda row: function(row[None])[0], x) ** 2),
        )

    assert_close(run(model), run(twin), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "in_graph"),
    [(name, True) for name in MODELS] + [(name, False) for name in ("batch_norm_add", "depthwise")],
)
def test_loss_of_a_jacobian(name, in_graph):
    """The forward pass runs on kernels, its gradient is vectorised and differentiated again."""
    model, twin, x = build(name)

    def run(model):
        def loss():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = model(x, training=False)
            return tf.reduce_sum(tape.batch_jacobian(y, x) ** 2)

        return gradients(model, tf.function(loss) if in_graph else loss)

    results, expected = run(model), run(twin)
    # Biases may have no gradient; TensorFlow returns None, our own operations zeros.
    for i, wanted in enumerate(expected):
        expected[i] = tf.zeros_like(model.trainable_variables[i]) if wanted is None else wanted
        results[i] = tf.zeros_like(expected[i]) if results[i] is None else results[i]
    assert_close(results, expected, 5 * QUANTIZATION_TOLERANCE)
    assert in_graph or hits["conv_forward"]


@pytest.mark.slow
def test_hessian_of_kernels_gradient():
    """The gradient was computed by kernels before it is vectorised."""
    model = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(1)])
    x = tf.constant(random_array(2, 3))
    model(x)

    def hessian(model):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = model(x)
            gradient = inner.gradient(y, x)
        return outer.jacobian(gradient, x)

    twin = float32_twin(model)
    assert relative_error(hessian(model), hessian(twin)) < QUANTIZATION_TOLERANCE


@pytest.mark.slow
@every_model
def test_compiled_by_xla(name):
    model, twin, x = build(name)

    def step(model):
        with tf.GradientTape() as tape:
            y = model(x)
        return [y, *tape.gradient(y, model.trainable_variables)]

    tf.function(model)(x)
    results = tf.function(step, jit_compile=True)(model)
    assert_close(results, step(twin), 1e-4)
    assert "its latest call was compiled by XLA, which cannot call the kernels" in {
        row.reason for row in dfpkeras.report(model).rows
    }


def test_xla_around_a_function_that_was_traced_before():
    model, twin, x = build("convolution")
    function = tf.function(model)
    function(x)
    compiled = tf.function(lambda x: function(x), jit_compile=True)
    assert relative_error(compiled(x), twin(x)) < 1e-5


@pytest.mark.slow
def test_a_float32_model_whose_loss_is_a_dfp16_network():
    features, _, x = build("convolution")
    with dtype_policy("float32"):
        model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(2, 3, padding="same")])

    def loss(y_true, y_pred):
        return keras.ops.mean((features(y_true) - features(y_pred)) ** 2, axis=-1)

    model.compile("sgd", loss, jit_compile=True)
    assert model.jit_compile
    before = model.get_weights()
    model.fit(x, x, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def traced(model, x):
    """A concrete function as users write it."""
    spec = tf.TensorSpec((None, *x.shape[1:]))
    return tf.function(lambda x: {"y": model(x, training=False)}).get_concrete_function(spec)


def save(model, x, path):
    tf.saved_model.save(model, path, signatures=traced(model, x))


def save_without_gradients(model, x, path):
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(model, path, signatures=traced(model, x), options=options)


def freeze(model, x, path):
    convert_variables_to_constants_v2(traced(model, x))


def convert_to_lite(model, x, path):
    tf.lite.TFLiteConverter.from_concrete_functions([traced(model, x)], model).convert()


@pytest.mark.slow
@pytest.mark.parametrize("hand_over", [save, save_without_gradients, freeze, convert_to_lite])
def test_graphs_with_kernels_are_not_saved_silently(hand_over, tmp_path):
    model, _, x = build("batch_norm_add")
    with pytest.raises(ValueError, match=r"dfpkeras\.float32_only\(\)"):
        hand_over(model, x, str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())
    with dfpkeras.float32_only():
        hand_over(model, x, str(tmp_path / "model"))


@pytest.mark.slow
def test_a_function_traced_in_float32_only_is_what_float32_computes(tmp_path):
    model, twin, x = build("batch_norm_add")
    function = tf.function(model)
    function(x)
    with dfpkeras.float32_only():
        assert relative_error(function(x), twin(x)) < 1e-6
        save(model, x, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert relative_error(loaded(x)["y"], twin(x)) < 1e-6
    assert relative_error(function(x), twin(x)) > 1e-6


def test_a_module_that_was_called_before_is_saved(tmp_path):
    model, twin, x = build("convolution")

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @tf.function
        def __call__(self, x):
            return self.model(x)

    module = Module()
    module(x)
    tf.saved_model.save(module, str(tmp_path / "module"))
    loaded = tf.saved_model.load(str(tmp_path / "module"))
    assert relative_error(loaded(x), twin(x)) < 1e-6


def call_with(layer, value):
    """Attention takes its tensors one by one."""
    return layer(*value) if "Attention" in type(layer).__name__ else layer(value)


@pytest.mark.slow
@every_model
def test_eager_tensors_inside_a_graph(name):
    """Constants and features that were computed eagerly, given to each layer in a graph."""
    model, twin, x = build(name)

    def run(model):
        calls = [
            (layer, keras.Model(model.inputs, layer.input)(x, training=False))
            for layer in model.layers[1:]
        ]

        @tf.function
        def graph():
            with tf.GradientTape() as tape:
                results = [call_with(layer, value) for layer, value in calls]
                loss = tf.add_n([tf.reduce_sum(y**2) for y in results])
            variables = [v for layer, _ in calls for v in layer.trainable_variables]
            return [*results, *tape.gradient(loss, variables)]

        return graph()

    assert_close(run(model), run(twin), 5 * QUANTIZATION_TOLERANCE)


def test_a_constant_added_to_a_layers_output():
    dense, add, pool = layers.Dense(4), layers.Add(), layers.MaxPooling1D(2)
    x, constant = tf.constant(random_array(2, 6, 3)), tf.constant(random_array(2, 6, 4, seed=1))
    dense(x)
    hits.reset()
    function = tf.function(lambda: pool(add([dense(x), constant])))
    expected = tf.nn.max_pool1d(dense(x) + constant, 2, 2, "VALID")
    assert relative_error(function(), expected) < QUANTIZATION_TOLERANCE
    assert hits["add"] == hits["max_pool"] == 1


def memory_of_used_model(name):
    """Weak references to the weights of a model that trains a step and predicts.

    `fit` is left out: TensorFlow keeps what it trained under float32, too.
    """
    model, _, x = build(name)

    @tf.function
    def step():
        return gradients(model, lambda: tf.reduce_sum(model(x, training=True)))

    step()
    model.predict(x, verbose=0)
    return [weakref.ref(weight.value.handle) for weight in model.weights]


@pytest.mark.slow
@every_model
def test_deleted_models_leave_no_weights(name):
    memory = memory_of_used_model(name)
    keras.utils.clear_session()
    gc.collect()
    assert not [handle for handle in memory if handle() is not None]


@pytest.mark.slow
@every_model
def test_forward_mode(name):
    model, twin, x = build(name)
    direction = tf.constant(random_array(*x.shape, seed=5))

    def derivative(model):
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            y = model(x, training=False)
        return accumulator.jvp(y)

    assert relative_error(derivative(model), derivative(twin)) < 2 * QUANTIZATION_TOLERANCE

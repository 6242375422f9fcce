"""Every way of running a model uses the integer kernels, each as often as it should."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import (
    QUANTIZATION_TOLERANCE,
    DenseCell,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
    small_cnn,
)

import dfpkeras
from dfpkeras.integration import calls
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers

# What one pass of `small_cnn` runs. Its input needs no gradient: graphs leave out the first
# backward-data, eager execution computes it. Graphs also leave out the FP32 values of what follows
# a convolution, its activation and the gradient of that.
FORWARD = {
    "quantize_activation": 1,
    "activation_forward": 2,
    "quantize_weights": 3,
    "conv_forward": 2,
    "dense_forward": 1,
}
STEP = FORWARD | {
    "quantize_gradient": 2,
    "activation_backward": 2,
    "bias_gradient": 3,
    "conv_backward_data": 1,
    "conv_backward_weights": 2,
    "dense_backward_data": 1,
    "dense_backward_weights": 1,
}
# Weights are kept from one inference to the next.
TWO_INFERENCES = FORWARD | {name: 2 * FORWARD[name] for name in FORWARD if "weights" not in name}
EAGER_FORWARD = FORWARD | {"dequantize": 2}
EAGER_STEP = STEP | {"conv_backward_data": 2, "dequantize": 4}

X, Y = random_array(16, 8, 8, 3), random_array(16, 5, seed=1)


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


def times(count, counts):
    return {name: count * one for name, one in counts.items()}


def compiled_cnn(**options):
    model = small_cnn()
    model.compile(keras.optimizers.SGD(0.01), "mse", **options)
    return model


def custom_step(model, persistent):
    with tf.GradientTape(persistent=persistent) as tape:
        loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
    return tape.gradient(loss, model.trainable_variables)


MODES = {
    "call": (lambda m: m(X), EAGER_FORWARD),
    "predict": (lambda m: m.predict(X, batch_size=8, verbose=0), TWO_INFERENCES),
    "predict_on_batch": (lambda m: m.predict_on_batch(X), FORWARD),
    "evaluate": (lambda m: m.evaluate(X, Y, batch_size=8, verbose=0), TWO_INFERENCES),
    "test_on_batch": (lambda m: m.test_on_batch(X, Y), FORWARD),
    "fit": (lambda m: m.fit(X, Y, batch_size=8, epochs=2, verbose=0), times(4, STEP)),
    "fit_dataset": (
        lambda m: m.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), verbose=0),
        times(2, STEP),
    ),
    "train_on_batch": (lambda m: m.train_on_batch(X, Y), STEP),
    "tape_eager": (lambda m: custom_step(m, False), EAGER_STEP),
    "tape_persistent": (lambda m: custom_step(m, True), EAGER_STEP),
    "tape_graph": (lambda m: tf.function(custom_step)(m, False), STEP),
    "tape_persistent_graph": (lambda m: tf.function(custom_step)(m, True), STEP),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    run, expected = MODES[mode]
    model = compiled_cnn()
    run(model)
    assert hits == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"run_eagerly": True}, times(2, EAGER_STEP)),
        ({"steps_per_execution": 2}, times(2, STEP)),
    ],
    ids=str,
)
def test_compile_options(options, expected):
    compiled_cnn(**options).fit(X, Y, batch_size=8, verbose=0)
    assert hits == expected


@pytest.mark.slow
def test_tape_around_a_function():
    model = small_cnn()
    function = tf.function(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((function(X) - Y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert hits["conv_backward_weights"] == 2 and hits["dense_backward_weights"] == 1
    for actual, expected in zip(gradients, custom_step(model, False), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
def test_other_policies_run_no_integer_kernel():
    with dtype_policy("float32"):
        model = compiled_cnn()
    model.fit(X, Y, verbose=0)
    assert not hits


@pytest.mark.slow
def test_training_follows_float32():
    """Sixty steps on a learnable problem: the two losses fall together."""
    images = random_array(256, 8, 8, 3)
    labels = (images.mean((1, 2)).argmax(-1)).astype("int32")
    model = small_cnn()
    losses = {}
    for name, net in (("dfp16", model), ("float32", float32_twin(model))):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile(keras.optimizers.Adam(3e-3), loss)
        history = net.fit(images, labels, batch_size=64, epochs=15, shuffle=False, verbose=0)
        losses[name] = history.history["loss"]
    assert losses["float32"][-1] < 0.5 * losses["float32"][0]
    np.testing.assert_allclose(losses["dfp16"], losses["float32"], rtol=0.02)


def test_building_a_functional_model_runs_no_kernel():
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3)(inputs)))
    assert keras.Model(inputs, outputs).output_shape == (None, 3)
    assert layers.Conv2D(4, 3).compute_output_spec(inputs).shape == (None, 6, 6, 4)
    layer = layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 3))
    assert isinstance(layer.call(inputs), keras.KerasTensor)
    assert calls.observe(layer).integer  # a symbolic call says nothing about real ones
    assert not hits


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_unknown_dimensions(data_format):
    shape = (None, None, None, 3) if data_format == "channels_last" else (None, 3, None, None)
    layer = layers.Conv2D(4, 3, strides=2, padding="same", data_format=data_format)
    layer.build(shape)
    traced = tf.function(layer, input_signature=[tf.TensorSpec(shape)])
    static = traced.get_concrete_function().output_shapes
    assert static.as_list() == list(layer.compute_output_shape(shape))
    x = random_array(*(size or 9 for size in shape))
    np.testing.assert_array_equal(traced(x), layer(x))
    dense = layers.Dense(4)
    dense.build((None, None, 3))
    traced = tf.function(dense, input_signature=[tf.TensorSpec((None, None, 3))])
    assert traced.get_concrete_function().output_shapes.as_list() == [None, None, 4]
    np.testing.assert_array_equal(traced(x := random_array(2, 5, 3)), dense(x))


def test_an_input_of_unknown_size_that_is_too_small():
    layer = layers.Conv2D(4, 3)
    layer.build((None, None, None, 3))
    with pytest.raises(ValueError, match=r"shape[= ]\(1, 2, 2, 3\)"):
        layer(tf.zeros((1, 2, 2, 3)))
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    with pytest.raises(tf.errors.InvalidArgumentError):
        traced(tf.zeros((1, 2, 2, 3)))


class SharedInput(keras.Model):
    """Two convolutions of one tensor, added: a residual block's beginning and end."""

    def __init__(self):
        super().__init__()
        self.shortcut = layers.Conv2D(4, 1, use_bias=False)
        self.residual = layers.Conv2D(4, 3, padding="same", use_bias=False)

    def call(self, inputs):
        return self.shortcut(inputs) + self.residual(inputs)


def one_step(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    return tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
def test_a_tensor_is_quantized_once(in_graph):
    model, x, y = SharedInput(), tf.constant(X), tf.constant(random_array(16, 8, 8, 4))
    model(x)
    hits.reset()
    (tf.function(one_step) if in_graph else one_step)(model, tf.identity(x), y)
    assert hits["quantize_activation"] == 1  # both convolutions read the same tensor
    assert hits["quantize_gradient"] == 1  # the sum hands the same gradient to both
    assert hits["quantize_weights"] == 2  # forward and backward-data share them
    assert hits["conv_forward"] == hits["conv_backward_weights"] == 2


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
def test_gradients_reach_the_layer_before_as_integers(in_graph):
    """The identity between the layers passes on the same gradient: no float32 in between."""
    model = keras.Sequential([layers.Dense(6, use_bias=False), layers.Dense(5, use_bias=False)])
    x, y = tf.constant(random_array(4, 7)), tf.constant(random_array(4, 5))
    model(x)
    hits.reset()
    (tf.function(one_step) if in_graph else one_step)(model, x, y)
    assert hits["quantize_gradient"] == 2
    assert hits["dense_backward_weights"] == 2


class Branches(keras.Model):
    """The same tensor and layers inside and outside of branches."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4), layers.Dense(4)

    def call(self, inputs):
        positive = keras.ops.sum(inputs) > 0
        a = keras.ops.cond(positive, lambda: self.first(inputs), lambda: self.second(inputs))
        b = keras.ops.cond(positive, lambda: self.second(inputs), lambda: self.first(inputs))
        return a * b + self.first(inputs)


class Loop(keras.Model):
    """A dense layer applied in a loop whose length TensorFlow learns at run time."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(5, activation="tanh")

    def call(self, inputs):
        count = tf.cast(tf.abs(inputs[0, 0]), tf.int32) + 3
        return tf.while_loop(
            lambda i, h: i < count,
            lambda i, h: (i + 1, self.dense(h) + self.dense(inputs)),
            [0, inputs],
        )[1]


def rematerialized():
    with keras.RematScope(mode="full"):
        first, second = layers.Dense(4, activation="tanh"), layers.Dense(3)
    inputs = keras.Input((5,))
    return keras.Model(inputs, second(first(inputs)))


CONTROL_FLOW = {
    "branches": (Branches, (4, 5)),
    "loop": (Loop, (4, 5)),
    "recurrent_cell": (lambda: keras.Sequential([layers.RNN(DenseCell())]), (3, 5, 6)),
    "time_distributed": (
        lambda: keras.Sequential([layers.TimeDistributed(layers.Conv2D(4, 3))]),
        (2, 3, 6, 6, 2),
    ),
    "rematerialized": (rematerialized, (4, 5)),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["eager", "graph", "tape_around_graph"])
@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow(name, how):
    make, shape = CONTROL_FLOW[name]
    x = tf.constant(random_array(*shape))
    model = make()
    with dtype_policy("float32"):
        twin = make()
    model(x), twin(x)
    twin.set_weights(model.get_weights())

    def run(function, model):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(loss, [x, *model.trainable_variables])]

    hits.reset()
    if how == "tape_around_graph":
        results = run(tf.function(model), model)
    else:
        results = (tf.function(run) if how == "graph" else run)(model, model)
    backward = hits["dense_backward_weights"] + hits["conv_backward_weights"]
    assert backward >= (1 if name == "time_distributed" else 2)
    for actual, expected in zip(results, run(twin, twin), strict=True):
        assert relative_error(actual, expected) < QUANTIZATION_TOLERANCE


class ScaledDense(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class StandardizedConv(layers.Conv2D):
    """Keras' documented hook: another kernel for the convolution."""

    def convolution_op(self, inputs, kernel):
        mean, variance = keras.ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / keras.ops.sqrt(variance + 1e-3))


class OwnDense(layers.Dense):
    def call(self, inputs):
        return keras.ops.matmul(inputs, self.kernel) + self.bias


@pytest.mark.parametrize(
    ("make", "shape", "integer"),
    [
        (lambda dtype: ScaledDense(3, dtype=dtype), (4, 5), True),
        (lambda dtype: StandardizedConv(3, 2, dtype=dtype), (4, 5, 5, 3), True),
        (lambda dtype: OwnDense(3, dtype=dtype), (4, 5), False),
    ],
    ids=["super_call", "convolution_op", "own_computation"],
)
def test_user_subclasses(make, shape, integer):
    layer, twin = make("dfp16"), make("float32")
    x = tf.constant(random_array(*shape))
    twin(x), layer.build(shape)
    twin.set_weights(layer.get_weights())
    assert not calls.observe(layer).integer  # nobody can know before the first call

    def run(layer):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        return [y, *tape.gradient(loss, layer.trainable_variables)]

    for actual, expected in zip(run(layer), run(twin), strict=True):
        assert relative_error(actual, expected) < QUANTIZATION_TOLERANCE
    assert bool(hits) == integer
    assert calls.observe(layer).integer == integer


def adapted_dense():
    layer = layers.Dense(3)
    layer.build((None, 5))
    layer.enable_lora(2)
    return layer


@pytest.mark.parametrize(
    ("make", "inputs", "reason"),
    [
        (adapted_dense, lambda: random_array(2, 5), "LoRA"),
        (
            lambda: layers.Dense(3),
            lambda: tf.sparse.from_dense(random_array(2, 5)),
            "its input was a SparseTensor",
        ),
        (lambda: layers.Dense(3), lambda: tf.ones((2, 5), tf.int32), "its input was int32"),
        (
            lambda: layers.Dense(3, autocast=False),
            lambda: tf.ones((2, 5), tf.float64),
            "its input was float64",
        ),
    ],
)
def test_what_the_kernels_cannot_take_runs_in_float32(make, inputs, reason):
    layer = make()
    assert layer(inputs()).shape == (2, 3)
    assert not hits
    decision = calls.observe(layer)
    assert not decision.integer and reason in decision.reason


def test_float64_and_float16_inputs_are_cast():
    layer = layers.Dense(3)
    for dtype in ("float64", "float16"):
        assert layer(tf.ones((2, 5), dtype)).dtype == "float32"
    assert hits["dense_forward"] == 2


def test_kernels_do_not_write_to_variables():
    model = compiled_cnn()
    model.optimizer.learning_rate = 0.0
    before = [w.numpy().copy() for w in model.trainable_variables]
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)
    custom_step(model, False)
    for weight, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_nan_stops_training():
    images = X.copy()
    images[9, 3, 3, 1] = np.nan
    model = compiled_cnn()
    history = model.fit(
        images,
        Y,
        batch_size=8,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    )
    assert model.stop_training
    assert np.isnan(history.history["loss"][-1]) and len(history.history["loss"]) == 1
    assert hits == times(2, STEP)


def test_jit_compile_falls_back_with_keras_warning():
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model = compiled_cnn(jit_compile=True)
    assert model.jit_compile is False
    model.fit(X, Y, batch_size=8, verbose=0)
    assert hits == times(2, STEP)
    with dtype_policy("float32"):
        assert compiled_cnn(jit_compile=True).jit_compile is True


def keras_export(model, path):
    model.export(path, verbose=False)
    loaded = tf.saved_model.load(path)
    return lambda x: loaded.serve(x)


def archive_export(model, path):
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((None, 8, 8, 3))]
    archive.add_endpoint("scores", lambda x: model(x, training=False), input_signature=signature)
    archive.write_out(path, verbose=False)
    loaded = tf.saved_model.load(path)
    return lambda x: loaded.scores(x)


def saved_model_export(model, path):
    tf.saved_model.save(model, path)
    loaded = tf.saved_model.load(path)
    return lambda x: loaded.signatures["serving_default"](tf.constant(x))["output_0"]


@pytest.mark.slow
@pytest.mark.parametrize("export", [keras_export, archive_export, saved_model_export])
def test_export(export, tmp_path):
    model = compiled_cnn()
    model.fit(X, Y, verbose=0)
    hits.reset()
    reloaded = export(model, str(tmp_path / "exported"))
    result = reloaded(X)
    assert not hits
    np.testing.assert_allclose(result, float32_twin(model)(X), rtol=1e-4, atol=1e-5)
    graph = (tmp_path / "exported" / "saved_model.pb").read_bytes()
    assert b"PyFunc" not in graph
    model.predict_on_batch(X)
    assert hits == FORWARD


def test_export_to_other_formats_traces_float32(monkeypatch):
    """ONNX and OpenVINO trace the model themselves, outside of any SavedModel."""
    model = small_cnn()
    traced = []

    def exporter(model, *args, **kwargs):
        traced.append(tf.function(model).get_concrete_function(tf.TensorSpec((None, 8, 8, 3))))

    monkeypatch.setattr("keras.src.export.export_onnx", exporter)
    model.export("model.onnx", format="onnx")
    operations = {operation.type for operation in traced[0].graph.get_operations()}
    assert "Conv2D" in operations and "PyFuncStateless" not in operations
    assert model(X).shape == (16, 5)
    assert hits == EAGER_FORWARD


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "convolutions", "depthwise"),
    [
        ("MobileNetV2", {"alpha": 0.35, "input_shape": (32, 32, 3)}, 35, 17),
        ("ResNet50", {"input_shape": (32, 32, 3)}, 53, 0),
    ],
)
def test_applications(name, options, convolutions, depthwise):
    model = getattr(keras.applications, name)(weights=None, classes=10, **options)
    model.compile("sgd", "sparse_categorical_crossentropy")
    loss = model.train_on_batch(random_array(4, 32, 32, 3), np.arange(4))
    assert np.isfinite(loss)
    assert hits["conv_forward"] == hits["conv_backward_weights"] == convolutions
    assert hits["conv_backward_data"] == convolutions - 1
    assert hits["dense_forward"] == hits["dense_backward_weights"] == 1
    depthwise_layers = [y for y in model.layers if isinstance(y, layers.DepthwiseConv2D)]
    assert len(depthwise_layers) == depthwise
    assert hits["depthwise_forward"] == hits["depthwise_backward_weights"] == depthwise
    assert hits["depthwise_backward_data"] == depthwise
    norms = [y for y in model.layers if isinstance(y, layers.BatchNormalization)]
    assert hits["batch_norm_statistics"] == hits["batch_norm_backward"] == len(norms)
    # After another layer a convolution finds integers: the images are left, and what the global
    # average pooling computed.
    assert hits["quantize_activation"] == 2


@pytest.mark.slow
def test_two_threads_train_at_once():
    models = [compiled_cnn(), compiled_cnn()]
    losses = {}

    def train(index):
        history = models[index].fit(X, Y, batch_size=4, epochs=20, verbose=0)
        losses[index] = history.history["loss"]

    threads = [threading.Thread(target=train, args=(index,), daemon=True) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert hits == times(2 * 20 * 4, STEP)
    assert all(loss[-1] < loss[0] for loss in losses.values()) and len(losses) == 2


def test_installing_twice_wraps_once():
    wrapped = keras.layers.Dense.call
    dfpkeras.install()
    assert keras.layers.Dense.call is wrapped

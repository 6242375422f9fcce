"""`dfpkeras.callbacks.DFPMonitor`: what it records of which layer, and that it changes nothing."""

import csv
import gc
import math
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from every_layer import MODELS
from keras_support import dtype_policy, random_array, small_cnn

import dfpkeras
from dfpkeras.callbacks import DFPMonitor
from dfpkeras.integration.keras_internals import inner_layers
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.kernels.measurement import measure
from dfpkeras.monitor.records import MonitorError, Records
from dfpkeras.monitor.rows import Row
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.runtime import kernel_observers

layers = keras.layers


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield
    gc.collect()
    assert kernel_observers.observers == ()


def fit(model, *callbacks, steps=1, eagerly=False, images=4):
    """Trains on random numbers; returns the weights."""
    shape = tuple(model.input_shape[1:])
    if not model.compiled:
        model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=eagerly)
    x = random_array(images * steps, *shape)
    y = np.zeros((images * steps, *model.output_shape[1:]), np.float32)
    model.fit(
        x, y, batch_size=images, shuffle=False, verbose=0, epochs=1, callbacks=list(callbacks)
    )
    return model.get_weights()


def recorded(model, **arguments):
    """The rows of one step, by layer and role or direction."""
    monitor = DFPMonitor(verbose=0)
    fit(model, monitor, **arguments)
    prefix = f"{model.name}/"
    return {
        (row.layer.removeprefix(prefix), row.role or row.direction): row for row in monitor.rows
    }


# Which layer


class Owners:
    """An observer that collects the owner of every kernel."""

    def __init__(self):
        self.seen = set()

    def watch(self, owner):
        return Watcher(self, owner)


class Watcher:
    def __init__(self, owners, owner):
        self._owners, self._owner = owners, owner

    def began(self, name):
        self._owners.seen.add((self._owner and self._owner(), name))

    def quantized(self, *args):
        pass

    multiplies = multiplied = quantized


@pytest.mark.parametrize(
    ("name", "eagerly"),
    [*((name, True) for name in MODELS), ("batch_norm_add", False), ("pooling", False)],
)
def test_every_kernel_has_the_layer_that_runs_it(name, eagerly):
    model = MODELS[name]()
    model.compile("sgd", "mse", run_eagerly=eagerly)
    owners = Owners()
    kernel_observers.add_observer(owners)
    try:
        x, y = random_array(2, *model.input_shape[1:]), np.zeros((2, *model.output_shape[1:]))
        model.train_on_batch(x, y)
    finally:
        kernel_observers.remove_observer(owners)
    assert {kernel for _, kernel in owners.seen} == set(hits)
    operations = [*getattr(model, "operations", ()), *inner_layers(model, recursive=True)]
    assert all(owner in operations for owner, _ in owners.seen), owners.seen
    with_kernels = {row.path.split("/")[-1] for row in int16_rows(model)}
    assert {layer.name for layer, _ in owners.seen} <= with_kernels
    for layer, kernel in owners.seen:
        kinds = KERNELS.get(type(layer))
        assert kinds is None or kernel.startswith(kinds), (layer, kernel)


def int16_rows(model):
    return [row for row in dfpkeras.report(model).rows if row.computes == "int16"]


_COMMON = ("quantize_", "sum_gradients", "dequantize", "activation_", "bias_gradient")
KERNELS = {
    layers.Conv2D: ("conv_", *_COMMON),
    layers.DepthwiseConv2D: ("depthwise_", *_COMMON),
    layers.Dense: ("dense_", *_COMMON),
    layers.MaxPooling2D: ("max_pool", *_COMMON),
    layers.AveragePooling2D: ("average_pool", *_COMMON),
    layers.BatchNormalization: ("batch_norm_", *_COMMON),
    layers.Multiply: ("multiply", "sum_products", *_COMMON),
    layers.Concatenate: ("concatenate", "split", *_COMMON),
}


def test_nested_shared_mixed_and_inner_layers():
    shared = layers.Dense(8, name="shared")
    block = keras.Sequential([keras.Input((6, 8)), layers.Dense(8, name="inner")], name="block")
    inputs = keras.Input((6, 8))
    x = shared(block(shared(inputs)))
    x = layers.Dense(8, name="plain", dtype="float32")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(inputs, layers.Dense(3, name="top")(layers.Flatten()(x)))
    found = recorded(model)
    for layer in ("shared", "block/inner", "attention/query", "attention/attention_output", "top"):
        assert {of for name, of in found if name == layer} == {
            "activation",
            "weights",
            "gradient",
            *(d for d in DIRECTIONS if (layer, d) in found),
        }
        assert (layer, "forward") in found and (layer, "backward_weights") in found
    assert not any(name == "plain" for name, _ in found)
    # Both calls of the shared layer.
    assert found["shared", "forward"].flushes == 1


def test_models_in_one_process_and_in_threads():
    models = [small_cnn() for _ in range(2)]
    alone = [recorded(model) for model in models]
    for model in models:
        model.set_weights(models[0].get_weights())
    monitors = [DFPMonitor(verbose=0) for _ in models]
    threads = [
        threading.Thread(target=fit, args=(model, monitor), kwargs={"steps": 3})
        for model, monitor in zip(models, monitors, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, monitor, before in zip(models, monitors, alone, strict=True):
        assert {row.layer.split("/")[0] for row in monitor.rows} == {model.name}
        assert len(monitor.rows) == len(before)
    numbers = [[row[2:] for row in monitor.rows] for monitor in monitors]
    assert numbers[0] == numbers[1]


def test_a_model_that_was_traced_before():
    model = small_cnn()
    fit(model, steps=2)
    found = recorded(model)
    assert ("first", "gradient") in found and ("top", "backward_data") in found


def test_a_tf_function_of_the_user():
    model = small_cnn()
    model.compile("sgd", "mse")
    x, y = random_array(2, 8, 8, 3), np.zeros((2, 5), np.float32)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    step(x, y)
    monitor = DFPMonitor(interval=1, verbose=0)
    monitor.set_model(model)
    monitor.on_train_begin()
    monitor.on_train_batch_begin(0)
    step(x, y)
    monitor.on_train_batch_end(0)
    found = {(row.layer.split("/")[1], row.role or row.direction) for row in monitor.rows}
    products = {("second", of) for of in ("activation", "weights", "gradient", *DIRECTIONS)}
    assert products <= found
    assert monitor.rows[0].step == 2


# What


def test_the_numbers_are_those_of_the_tensors():
    model = keras.Sequential(
        [keras.Input((7,)), layers.Dense(5, name="top", dtype="dfp16(weight_bits=9)")]
    )
    kernel = model.layers[-1].kernel.numpy()
    found = recorded(model, images=6)
    x = random_array(6, 7)
    y = x @ kernel
    x, w = dfpkeras.quantize(x, 14), dfpkeras.quantize(kernel, 9)
    of_x, of_w = found["top", "activation"], found["top", "weights"]
    for row, tensor, bits, source in ((of_x, x, 14, random_array(6, 7)), (of_w, w, 9, kernel)):
        wanted = measure(tensor, bits, source=source)
        assert row.noise == "measured"
        for name in ("exponent", "largest", "zeros", "saturated", "sqnr_db", "useful_bits"):
            assert getattr(row, name) == getattr(wanted, name), name
    gradient = found["top", "gradient"]
    assert gradient.largest == pytest.approx(np.abs(2 * y / y.size).max(), rel=1e-2)
    assert found["top", "forward"].run_length == 8  # 7 products in pairs
    assert found["top", "forward"].flushes == found["top", "backward_weights"].flushes == 1
    assert found["top", "forward"].algorithm == "direct"


def test_integers_that_kernels_write_themselves():
    """What a batch norm and its ReLU made is what the convolution after them reads."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, name="first", use_bias=False),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(16, 3, name="second", dtype="dfp16(algorithm=winograd_2x2)"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    found = recorded(model)
    made, read = found["relu", "activation"], found["second", "activation"]
    assert made[4:] == read[4:] and made.noise == "modelled"
    assert found["norm", "gradient"][4:] == found["first", "gradient"][4:]
    assert ("norm", "activation") not in found  # computed in one pass with the ReLU
    assert 0.2 < made.zeros < 0.8
    assert {found["second", d].algorithm for d in DIRECTIONS} == {"winograd_2x2"}


def test_nan_is_recorded_not_raised():
    model = small_cnn()
    model.compile("sgd", "mse")
    monitor = DFPMonitor(verbose=0)
    model.fit(np.full((2, 8, 8, 3), np.nan), np.zeros((2, 5)), verbose=0, callbacks=[monitor])
    first = next(row for row in monitor.rows if row.role == "activation")
    assert first.exponent == 127 and math.isnan(first.largest)


def test_a_model_in_float32_has_nothing_to_record(tmp_path, capsys):
    with dtype_policy("float32"):
        model = small_cnn()
    monitor = DFPMonitor(tmp_path)
    fit(model, monitor)
    assert monitor.rows == Records(tmp_path / "monitor.csv").read() == []
    assert "No layer computed on integers" in capsys.readouterr().out


# When, and what it changes


@pytest.mark.parametrize("eagerly", [False, True])
def test_no_bit_changes(eagerly):
    def trained(*callbacks):
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(16, 3, name="first", dtype="dfp16(rounding=stochastic)"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(2),
                layers.DepthwiseConv2D(2),
                layers.Flatten(),
                layers.Dense(5),
            ]
        )
        return fit(model, *callbacks, steps=3, eagerly=eagerly)

    without, with_monitor = trained(), trained(DFPMonitor(interval=2, verbose=0))
    for a, b in zip(without, with_monitor, strict=True):
        assert (a == b).all()


def test_interval_and_steps(tmp_path):
    model = small_cnn()
    fit(model, DFPMonitor(tmp_path, interval=3, verbose=0), steps=5)
    assert [*dict.fromkeys(row.step for row in Records(tmp_path / "monitor.csv").read())] == [1, 4]
    fit(model, DFPMonitor(tmp_path, interval=3, verbose=0), steps=3)
    steps = [*dict.fromkeys(row.step for row in Records(tmp_path / "monitor.csv").read())]
    assert steps == [1, 4, 6, 7]  # the training went on after step 5
    for wrong, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="interval: expected"):
            DFPMonitor(interval=wrong)


def test_a_step_that_fails_leaves_no_observer():
    class Failing(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    monitor = DFPMonitor(verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(small_cnn(), monitor, Failing())
    del monitor
    gc.collect()
    assert kernel_observers.observers == ()


# Where to


def test_file_table_and_events(tmp_path, capsys):
    model = keras.models.clone_model(small_cnn())
    model.name = "net"  # short enough for a line of the table
    monitor = DFPMonitor(tmp_path, tensorboard=tmp_path / "events")
    fit(model, monitor)
    with open(tmp_path / "monitor.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(monitor.rows) and list(rows[0]) == list(Row._fields)
    assert Records(tmp_path / "monitor.csv").read() == monitor.rows
    table = capsys.readouterr().out
    for layer in ("first", "second", "top"):
        assert f"/{layer}" in table
    assert "recorded in 1 step " in table
    (path,) = (tmp_path / "events").iterdir()
    scalars = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        scalars |= {(event.step, v.tag): v.simple_value for v in event.summary.value}
    for row in monitor.rows:
        for name in ("useful_bits", "exponent", "zeros") if row.role else ("run_length",):
            tag = f"{name}/{row.layer}/{row.role or row.direction}"
            assert scalars[1, tag] == pytest.approx(getattr(row, name), rel=1e-6)


def test_a_file_that_is_incomplete_or_ahead(tmp_path):
    """A process was killed while it wrote, and training is resumed from an earlier checkpoint."""
    path, row = tmp_path / "monitor.csv", Row(1, "a,b", "weights", "", 3, 0.5, 0.0, 0.0, 70.0)
    records = Records(path)
    records.continue_from(0)
    records.append([row, row._replace(step=101)])
    records.append([row._replace(step=201)])
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)
    assert [found.step for found in records.read()] == [1, 101]
    records.continue_from(50)
    assert records.read() == [row]
    records.append([row._replace(step=101)])
    assert [found.step for found in records.read()] == [1, 101]
    path.unlink()
    records.append([row])
    assert records.read() == [row]


def test_a_foreign_file_is_not_touched(tmp_path):
    path = tmp_path / "monitor.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(MonitorError, match=r"monitor\.csv: cannot be read"):
        fit(small_cnn(), DFPMonitor(tmp_path, verbose=0))
    assert path.read_text() == "a,b\n1,2\n"


def test_what_cannot_be_written_is_written_later(tmp_path):
    directory = tmp_path / "run"
    monitor = DFPMonitor(directory, interval=1, verbose=0)
    model, path = small_cnn(), directory / "monitor.csv"

    class Interfering(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                path.unlink()
                path.mkdir()
            if batch == 2:
                path.rmdir()

    with pytest.warns(UserWarning, match=r"monitor\.csv: cannot be written"):
        fit(model, Interfering(), monitor, steps=3)
    assert {row.step for row in Records(path).read()} == {2, 3}


# Warnings


def test_a_tensor_with_few_useful_bits_is_warned_of_once():
    model = small_cnn()
    model.compile("sgd", "mse")
    x = random_array(12, 8, 8, 3) * 1e-6
    x[:, 0, 0, 0] = 1
    with pytest.warns(UserWarning) as caught:
        model.fit(
            x,
            np.zeros((12, 5)),
            batch_size=4,
            verbose=0,
            callbacks=[DFPMonitor(interval=1, verbose=0)],
        )
    of_first = [
        str(w.message) for w in caught if f"{model.name}/first, activation" in str(w.message)
    ]
    assert len(of_first) == 1
    for remedy in ("normalise or clip", "activation_bits than 14", 'dtype="float32"'):
        assert remedy in of_first[0]


def test_a_sum_that_is_no_layer_is_warned_of_too():
    inputs = keras.Input((8, 8, 3))
    a, b = (layers.Conv2D(64, 1, name=name)(inputs) for name in ("a", "b"))
    total = a + b
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(total), name="net")
    model.compile("sgd", "mse")
    x = random_array(4, 8, 8, 3) * 1e-4
    x[0, 0, 0, 0] = 1
    with pytest.warns(UserWarning, match="net/add.*, activation: [0-2].. useful bits.* normalise"):
        model.fit(x, np.zeros((4, 64)), verbose=0, callbacks=[DFPMonitor(interval=1, verbose=0)])


def test_ordinary_training_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(small_cnn(), DFPMonitor(interval=1, verbose=0), steps=3)

"""benchmarks/bit_budget: its schedules are the kernels', and it reports what it measured."""

import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import reference
import tensorflow as tf

import dfpkeras
from dfpkeras.benchmark import measure

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "bit_budget"))

import bit_budget
import bit_budget_capture as capture
import bit_budget_choice as choice
import bit_budget_noise as noise
import bit_budget_schedule as schedule
import bit_budget_speed as speed
import bit_budget_tensors as tensors


def integers(shape, bits, seed=0):
    """Long-tailed int16 numbers, the largest of which have `bits` bits."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape))
    return dfpkeras.quantize(x.astype(np.float32), bits)


# ---- schedules -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [9, 11, 13, 15])
@pytest.mark.parametrize("pairs", [1, 8, 61, 200])
def test_runs_are_those_of_the_reference(bits, pairs):
    packed = integers((5, 2 * pairs, 7), bits).data
    pair_sums = np.abs(packed.astype(np.int64)).reshape(5, pairs, 2, 7).sum(axis=2)
    for max_abs in (0, 1, 2**bits - 1, 32767):
        expected = [len(reference.schedule(block, max_abs)) for block in packed]
        assert schedule.count_runs(pair_sums, max_abs).tolist() == expected


def test_steps_that_do_not_fit_are_cut():
    packed = np.full((1, 48, 1), 32767, np.int16)
    packed[0, 16:32] = 1
    pair_sums = packed.astype(np.int64).reshape(1, 24, 2, 1).sum(axis=2)
    expected = len(reference.schedule(packed[0], 32767))
    assert expected > 16
    assert schedule.count_runs(pair_sums, 32767).tolist() == [expected]


# Channels enough for backward_data to go by phases: see `reference.choose_cell`.
CONVOLUTIONS = [
    ((1, 6, 5, 33), (3, 3, 33, 70), 1, "same"),
    ((2, 7, 8, 66), (3, 2, 66, 5), 2, "same"),
    ((1, 9, 9, 33), (1, 1, 33, 129), 2, "valid"),
    ((1, 8, 8, 65), (7, 7, 65, 3), 2, "valid"),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "strides", "padding"), CONVOLUTIONS)
@pytest.mark.parametrize("bits", [12, 15])
def test_forward_and_backward_data_are_those_of_the_reference(
    x_shape, w_shape, strides, padding, bits
):
    x, w = integers(x_shape, bits, seed=1), integers(w_shape, bits, seed=2)
    y_shape = reference.output_shape(x_shape, w_shape, strides, padding)
    dy = integers(y_shape, bits, seed=3)

    forward = schedule.count_layer_runs(schedule.reduce_forward(w.data, y_shape), x.max_abs)
    expected = reference.scheduled_forward(x, w, strides, padding)
    assert forward.runs == expected.flushes.sum()
    assert forward.products == np.prod(y_shape) * np.prod(w_shape[:3])

    reductions = schedule.reduce_backward_data(w.data, x_shape, strides, padding)
    backward = schedule.count_layer_runs(reductions, dy.max_abs)
    expected = reference.scheduled_backward_data(dy, w, x_shape, strides, padding)
    assert backward.runs == expected.flushes.sum()


def test_backward_data_takes_taps_in_the_order_of_the_gradient():
    w = np.arange(3 * 3 * 16 * 2, dtype=np.int16).reshape(3, 3, 16, 2)
    (reduction,) = schedule.reduce_backward_data(w, (1, 5, 5, 16), strides=1, padding="same")
    expected = w[::-1, ::-1].sum(axis=3).reshape(1, 9, 16)
    np.testing.assert_array_equal(reduction.pair_sums, expected)


@pytest.mark.parametrize("shape", [(3, 20, 21, 70), (1, 3, 3, 2)])
@pytest.mark.parametrize("max_abs", [1, 16000])
def test_backward_weights_restarts_every_512_pixels(shape, max_abs):
    dy = integers(shape, 14)
    w_shape = (3, 3, 2, shape[3])
    matrix = np.pad(
        dy.data.reshape(-1, shape[3]), ((0, shape[0] * shape[1] * shape[2] % 2), (0, 0))
    )
    expected = sum(
        len(reference.schedule(matrix[first : first + 512, columns], max_abs))
        * (columns.stop - columns.start)
        * 18
        for first in range(0, len(matrix), 512)
        for columns in reference.column_blocks(shape[3])
    )
    count = schedule.count_layer_runs(schedule.reduce_backward_weights(dy.data, w_shape), max_abs)
    assert (count.products, count.runs) == (dy.data.size * 18, expected)


# ---- noise -----------------------------------------------------------------------------------


def test_decibels():
    signal = np.array([[3.0, -4.0]], np.float32)
    assert noise.decibels(signal, signal * 1.125) == pytest.approx(20 * np.log10(8))
    assert noise.decibels(signal, signal) == np.inf


def random_layer(seed=0):
    rng = np.random.default_rng(seed)
    return tensors.LayerTensors(
        "conv",
        np.maximum(rng.standard_normal((2, 16, 16, 128)), 0).astype(np.float32),
        rng.standard_normal((1, 1, 128, 128)).astype(np.float32),
        rng.standard_normal((2, 16, 16, 128)).astype(np.float32),
        1,
        "same",
    )


def test_a_bit_is_worth_6_db():
    layer, three_bits = random_layer(), pytest.approx(18.1, abs=0.5)
    assert noise.operand_snr(layer.x, 12) - noise.operand_snr(layer.x, 9) == three_bits
    exact, roles = noise.exact_results(layer), ("x", "w", "dy")
    few, more = (noise.result_snr(exact, layer, dict.fromkeys(roles, bits)) for bits in (9, 12))
    assert {direction: more[direction] - few[direction] for direction in schedule.OPERANDS} == {
        direction: three_bits for direction in schedule.OPERANDS
    }
    assert min(few.values()) > 35


def test_batch_noise_is_what_its_halves_disagree_about():
    layer = random_layer()
    x, dy = layer.x.copy(), layer.dy.copy()
    x[1], dy[1] = x[0], 0.5 * dy[0]
    halves = tensors.LayerTensors("conv", x, layer.w, dy, 1, "same")
    assert noise.batch_snr(halves) == pytest.approx(20 * np.log10(1.5 / 0.5), abs=0.01)


# ---- capturing -------------------------------------------------------------------------------


@pytest.mark.slow
def test_captured_tensors_give_the_gradients_of_the_kernels():
    keras.utils.set_random_seed(0)
    source = type("Source", (), {"image_shape": (16, 16, 3), "num_classes": 10})
    model = capture.resnet20(source)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)
    labels = np.arange(4)
    layers = list(capture.layer_tensors(model, images, labels))
    with tf.GradientTape() as tape:
        loss = capture.LOSS(labels, model(images, training=True))
    kernels = [model.get_layer(layer.name).kernel for layer in layers]
    for layer, expected in zip(layers, tape.gradient(loss, kernels), strict=True):
        dw = noise.exact_results(layer)["backward_weights"].reshape(expected.shape)
        assert np.abs(dw - expected).max() <= 1e-4 * np.abs(expected).max(), layer.name


def test_class_folders_are_read(tmp_path):
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        for i in range(3):
            pixels = np.full((8, 8, 3), 100 + i, np.uint8)
            jpeg = tf.io.encode_jpeg(pixels).numpy()
            (tmp_path / folder / f"{i}.jpg").write_bytes(jpeg)
    source = capture.ImageSource(tmp_path, 8, batch_size=4, num_classes=1000)
    batches = list(source.batches(3))
    assert source.num_classes == 2
    assert [images.shape for images, _ in batches] == [(4, 8, 8, 3)] * 3
    assert all(np.abs(images).max() < 3 for images, _ in batches)


# ---- the rule and the report -----------------------------------------------------------------


def runs_of(products_at):
    """A table of runs that halve with every bit, ``products_at`` of a sum of 27 bits."""
    rows = [
        ("net", 1, direction, a, b, products * 2.0 ** (27 - a - b), 1.0, 512.0)
        for direction, products in products_at.items()
        for a in choice.GRID[schedule.OPERANDS[direction][0]]
        for b in choice.GRID[schedule.OPERANDS[direction][1]]
    ]
    columns = ["network", "step", "direction", "broadcast_bits", "packed_bits"]
    return pd.DataFrame(rows, columns=[*columns, "mean_run", "worst_run", "longest_run"])


def test_rule():
    runs = runs_of({"forward": 64, "backward_data": 128, "backward_weights": 63})
    # Activations and weights may have 27 bits, gradients and weights 28, activations and
    # gradients 26.
    assert choice.most_bits(runs) == [(12, 14, 14), (12, 15, 13), (13, 14, 13)]


def test_rule_holds_in_every_network_at_the_end_of_training():
    products = {"forward": 64, "backward_data": 128, "backward_weights": 63}
    first, last, other = (runs_of(products) for _ in range(3))
    first["mean_run"] /= 1000
    last["step"] = 2
    other["network"] = "other"
    other["mean_run"] /= 2
    assert choice.most_bits(pd.concat([first, last])) == choice.most_bits(runs_of(products))
    assert choice.most_bits(pd.concat([last, other])) == choice.most_bits(other)


@pytest.fixture
def work(tmp_path):
    """A directory of captured tensors: two networks of one layer each."""
    for seed, network in enumerate(("one", "two")):
        directory = tensors.snapshot_directory(tmp_path / "work", network, 1)
        directory.mkdir(parents=True)
        tensors.save_layer(random_layer(seed), directory, index=0)
        training = '{"image_size": 16, "batch_size": 2, "steps": 1, "loss": 1, "accuracy": 0.5}'
        (directory.parent / "training.json").write_text(training)
    return tmp_path / "work"


@pytest.mark.slow
def test_tables_speed_and_report(work, tmp_path, monkeypatch):
    monkeypatch.setattr(bit_budget, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "NETWORK", "one")
    monkeypatch.setattr(speed, "LAYERS", ("conv",))
    monkeypatch.setattr(speed, "SECONDS_EACH", 0)
    monkeypatch.setattr(measure, "_MOST_CALLS_IN_A_TURN", 1)
    measured = bit_budget.tables(work) | bit_budget.speed(work)
    for _, rows in measured["speed"].groupby("direction"):
        assert rows["bits"].tolist() == [0, *range(23, 31)]
        assert rows["mean_run"].is_monotonic_decreasing
        assert rows["mean_run"].iloc[0] > rows["mean_run"].iloc[-1]
        assert (rows["milliseconds"] > 0).all()

    bit_budget.write_results(measured)
    report = (tmp_path / "bit_budget.md").read_text()
    best = "/".join(map(str, choice.choose(measured["runs"], measured["results"])))
    assert f"**{best}**" in report
    assert (tmp_path / "bit_budget.png").read_bytes().startswith(b"\x89PNG")

    read = bit_budget.read_results()
    for name in bit_budget.TABLES:
        pd.testing.assert_frame_equal(read[name], measured[name], check_dtype=False, atol=1e-4)
    bit_budget.write_results({name: value for name, value in read.items() if name != "speed"})
    without_speed = (tmp_path / "bit_budget.md").read_text()
    assert "## Kernel time" in report
    assert report.split("## Kernel time")[0].endswith(without_speed[-1000:] + "\n")

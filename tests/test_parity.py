"""benchmarks/parity: which runs are missing, what is appended, and what the tables say."""

import fcntl
import functools
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras_support import random_array
from scipy import stats

import dfpkeras

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "parity"))

import bfloat16_train
import parity_data as data
import parity_plot as plot
import parity_report as report
import parity_results as results
import parity_runner as runner
import parity_statistics as statistics
import parity_study as study

EPOCHS = 3
STUDY = {
    "data": {"images": {"classes": 2, "train_images": 4, "test_images": 2}},
    "common": {"schedule": "cosine", "epochs": 9},
    "networks": {
        "small": {"data": "images", "model": "m:small", "epochs": EPOCHS},
        "large": {"data": "images", "model": "m:large", "epochs": EPOCHS},
    },
    "ablation": {"data": "images", "model": "m:small", "epochs": EPOCHS},
}


def history(policy="dfp16", epochs=EPOCHS, accuracy=0.5):
    """What a run of `dfpkeras train` writes, with a column that the study does not need."""
    rows = [{"policy": policy, "epoch": 1 + epoch, "top_5": 1.0} for epoch in range(epochs)]
    values = {metric: 0.1 for metric in results.METRICS}
    return pd.DataFrame([row | values | {"val_accuracy": accuracy} for row in rows])


def append_all(path, runs, accuracy=lambda run: 0.5):
    for run in runs:
        results.append_run(path, run, history(run.dtype_policy, accuracy=accuracy(run)))


def test_runs_of_a_study():
    runs = study.network_runs(STUDY, range(2))
    assert [(r.name, r.policy, r.seed) for r in runs[:7]] == [
        ("small", "float32", 0),
        ("small", "dfp16", 0),
        ("small", "dfp16(algorithm=winograd_4x4)", 0),
        ("large", "float32", 0),
        ("large", "dfp16", 0),
        ("large", "dfp16(algorithm=winograd_4x4)", 0),
        ("small", "float32", 1),
    ]
    assert len(runs) == 12
    assert runs[0].options == {
        "schedule": "cosine",
        "epochs": EPOCHS,
        "data": "images-4-2",
        "classes": 2,
        "model": "m:small",
    }
    assert [r.name for r in study.network_runs(STUDY, [0], ["large"])] == 3 * ["large"]
    with pytest.raises(ValueError, match="small, large; got 'huge'"):
        study.network_runs(STUDY, [0], ["huge"])


def test_pairs_share_a_recipe_and_changes_make_another():
    float32, dfp16, _ = study.network_runs(STUDY, [0], ["small"])
    assert float32.recipe == dfp16.recipe and float32.key != dfp16.key
    changed = STUDY | {"common": {"schedule": "steps", "epochs": 9}}
    assert study.network_runs(changed, [0], ["small"])[0].recipe != float32.recipe
    more = STUDY | {"data": {"images": STUDY["data"]["images"] | {"train_images": 8}}}
    assert study.network_runs(more, [0], ["small"])[0].recipe != float32.recipe
    formatted = study.Run("small", "dfp16", 0, dfp16.options, {"weight_bits": 9})
    assert formatted.recipe != dfp16.recipe


def test_the_real_study_can_be_read():
    real = study.read_study()
    runs = study.network_runs(real, range(5))
    assert {run.name for run in runs} == {"resnet20", "vgg", "googlenet", "alexnet"}
    assert len({run.key for run in runs}) == len(runs) == 60
    ablation = study.ablation_runs(real, [0])
    assert len({run.directory_name for run in ablation}) == len(ablation)


def test_default_bits_are_those_of_the_policy():
    number_format = dfpkeras.DFP16Policy().number_format
    for role, bits in study.DEFAULT_BITS.items():
        assert getattr(number_format, f"{role}_bits") == bits


def test_every_number_format_is_possible():
    formats = study.number_formats()
    for name, arguments in formats.items():
        policy = keras.DTypePolicy(study.Run(name, "dfp16", 0, {}, arguments).dtype_policy)
        assert policy == dfpkeras.DFP16Policy(**arguments)
    weights = {arguments.get("weight_bits") for arguments in formats.values()}
    assert weights == {None, *range(7, 16)} - {12}  # 12 is the default
    assert formats["stochastic 8"] == formats["nearest 8"] | {"rounding": "stochastic"}


def test_missing_runs_and_growth(tmp_path):
    path = tmp_path / "new" / "runs.csv"
    runs = study.network_runs(STUDY, range(2))
    assert results.missing_runs(runs, results.read_results(path)) == runs
    append_all(path, runs[:3])
    assert results.missing_runs(runs, results.read_results(path)) == runs[3:]
    append_all(path, runs[3:])
    rows = results.read_results(path)
    assert results.missing_runs(runs, rows) == []
    assert list(rows.columns) == results.COLUMNS and len(rows) == len(runs) * EPOCHS
    assert len(results.missing_runs(study.network_runs(STUDY, range(3)), rows)) == 6
    assert os.listdir(path.parent) == ["runs.csv"]


def test_a_recipe_of_digits_stays_a_string(tmp_path):
    run = study.Run("8", "dfp16", 0, {"epochs": EPOCHS})
    rows = pd.DataFrame([["8", "dfp16", 0, "00123456", 1, *[0.0] * 7]], columns=results.COLUMNS)
    rows.to_csv(tmp_path / "runs.csv", index=False)
    assert results.read_results(tmp_path / "runs.csv")["recipe"].tolist() == ["00123456"]
    append_all(tmp_path / "runs.csv", [run])
    assert results.missing_runs([run], results.read_results(tmp_path / "runs.csv")) == []


@pytest.mark.parametrize("epochs", [EPOCHS - 1, EPOCHS + 1])
def test_an_unfinished_history_is_refused(tmp_path, epochs):
    run = study.network_runs(STUDY, [0])[1]
    with pytest.raises(ValueError, match=rf"small-dfp16-seed0-\w+: expected {EPOCHS} epochs"):
        results.append_run(tmp_path / "runs.csv", run, history(epochs=epochs))
    assert not (tmp_path / "runs.csv").exists()


def test_rows_of_other_recipes_do_not_count(tmp_path):
    old = study.network_runs(STUDY, [0])
    new = study.network_runs(STUDY | {"common": {"schedule": "steps"}}, [0])
    append_all(tmp_path / "runs.csv", [*old, *new])
    rows = results.rows_of(results.read_results(tmp_path / "runs.csv"), new)
    assert set(rows["recipe"]) == {run.recipe for run in new}
    assert len(results.final_rows(rows)) == len(new)
    assert results.final_rows(rows)["epoch"].tolist() == [EPOCHS] * len(new)


def test_command_of_a_run(tmp_path):
    run = study.Run("a", "dfp16", 3, {"data": "d-4-2", "epochs": 2, "mean": [1, 2], "flip": False})
    command = runner.train_command(run, tmp_path)
    assert command[1:4] == ["-m", "dfpkeras_command", "train"]
    text = " ".join(command)
    assert f"--data {tmp_path / 'data' / 'd-4-2'} --epochs 2 --mean 1 2 --no-flip" in text
    assert "--policy dfp16 --seed 3" in text and "--resume" not in text
    (tmp_path / "runs" / run.directory_name).mkdir(parents=True)
    (tmp_path / "runs" / run.directory_name / "config.json").touch()
    resumed = runner.train_command(run, tmp_path)
    assert resumed[-3:] == ["--name", run.directory_name, "--resume"]
    number_format = {"weight_bits": 9, "rounding": "stochastic"}
    formatted = study.Run("a", "dfp16", 3, run.options, number_format)
    policy = "dfp16(weight_bits=9, rounding=stochastic)"
    assert ["--policy", policy] == runner.train_command(formatted, tmp_path)[8:10]


@pytest.fixture
def training(monkeypatch):
    """Puts a few lines of Python in the place of `dfpkeras train`; returns the runs begun."""
    begun = []

    def command(run, work):
        begun.append(run.directory_name)
        directory = work / "runs" / run.directory_name
        checkpoint = directory / "checkpoints" / run.dtype_policy
        checkpoint.mkdir(parents=True, exist_ok=True)
        for epoch in range(EPOCHS):
            (checkpoint / f"epoch-{epoch}.keras").touch()
        history(run.dtype_policy).to_csv(directory / "history.csv", index=False)
        return [sys.executable, "-P", "-c", f"import sys; sys.exit({run.options.get('status', 0)})"]

    monkeypatch.setattr(runner, "train_command", command)
    return begun


def test_missing_runs_are_done(tmp_path, training):
    runs = study.network_runs(STUDY, [0])
    path = tmp_path / "runs.csv"
    append_all(path, runs[:1])
    assert runner.do_missing_runs(runs, path, tmp_path) == 0
    assert training == [run.directory_name for run in runs[1:]]
    assert results.missing_runs(runs, results.read_results(path)) == []
    left = [p.name for p in tmp_path.glob("runs/*/checkpoints/*/*")]
    assert left == ["epoch-2.keras"] * len(runs[1:])
    assert runner.do_missing_runs(runs, path, tmp_path) == 0 and len(training) == 5


def test_a_run_that_fails_is_reported_and_left_out(tmp_path, training, capsys):
    good, bad, _ = study.network_runs(STUDY, [0], ["small"])
    bad = study.Run(bad.name, bad.policy, bad.seed, bad.options | {"status": 2})
    assert runner.do_missing_runs([bad, good], tmp_path / "runs.csv", tmp_path) == 1
    assert f"{bad.directory_name} ended with status 2, see " in capsys.readouterr().err
    assert results.missing_runs([bad, good], results.read_results(tmp_path / "runs.csv")) == [bad]


def test_one_process_at_a_time(tmp_path, training):
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="another process, or a run it began, is at work"):
            runner.do_missing_runs(study.network_runs(STUDY, [0]), tmp_path / "runs.csv", tmp_path)
    assert not training


def series(*accuracies, seeds=None):
    return pd.Series(accuracies, index=seeds or range(len(accuracies)))


def test_paired_statistics():
    float32, dfp16 = series(0.60, 0.62, 0.61, 0.65), series(0.61, 0.62, 0.63, 0.66)
    comparison = statistics.compare("n", float32, dfp16)
    assert comparison.difference == pytest.approx(1.0)
    # Differences 1, 0, 2, 1: their standard error is sqrt(2 / 3) / 2.
    reach = stats.t.ppf(0.975, 3) * np.sqrt(2 / 3) / 2
    assert comparison.interval == pytest.approx((1 - reach, 1 + reach))
    assert comparison.p_value == pytest.approx(2 * stats.t.sf(1 / (np.sqrt(2 / 3) / 2), 3))


def test_pairs_are_made_by_seed():
    float32 = series(0.1, 0.2, 0.3, seeds=[2, 0, 1])
    dfp16 = series(0.25, 0.35, 0.9, seeds=[0, 1, 7])
    comparison = statistics.compare("n", float32, dfp16)
    assert comparison.float32 == pytest.approx([20, 30])
    assert comparison.dfp16 == pytest.approx([25, 35])
    with pytest.raises(ValueError, match="n: expected a seed trained under both policies"):
        statistics.compare("n", series(0.1, seeds=[1]), series(0.1, seeds=[2]))


@pytest.mark.parametrize(
    ("differences", "equal"),
    [
        ([0.19, 0.29, 0.39], True),  # less than 0.3 points, although surely above 0
        ([0.4, 0.5, 0.6], False),  # more than that, and the interval is 0.25 to 0.75
        ([-0.4, -0.5, -0.6], False),
        ([-1.0, 0.5, 2.0], True),  # 0.5 points, but they may be chance
        ([0.5, 0.5, 0.5], False),  # no spread at all
        ([0.0, 0.0, 0.0], True),
    ],
)
def test_what_counts_as_equal(differences, equal):
    float32 = np.array([0.5, 0.6, 0.75])
    dfp16 = float32 + np.array(differences) / 100
    comparison = statistics.Comparison("n", 100 * float32, 100 * dfp16)
    assert comparison.is_equal is equal
    assert 0 <= comparison.p_value <= 1


def test_one_pair_has_no_interval():
    comparison = statistics.compare("n", series(0.5), series(0.6))
    assert np.isnan(comparison.interval).all() and np.isnan(comparison.p_value)
    assert not comparison.is_equal
    networks = {"n": STUDY["networks"]["small"]}
    text = report.comparison_markdown([comparison], STUDY | {"networks": networks})
    assert "| +nan to +nan | nan | open |" in text


@pytest.fixture
def finished(tmp_path):
    """Two networks, three seeds; dfp16 is 1 point better in one and 1 point worse in the other, its
    Winograd as good as float32."""
    runs = study.network_runs(STUDY, range(3))
    shift = {("small", "dfp16"): 0.01, ("large", "dfp16"): -0.01}

    def accuracy(run):
        return 0.5 + 0.05 * run.seed + shift.get((run.name, run.policy), 0) * (1 + 0.1 * run.seed)

    append_all(tmp_path / "runs.csv", runs, accuracy)
    return runs, results.read_results(tmp_path / "runs.csv")


def test_tables(finished):
    comparisons = report.compare_networks(*finished)
    table = report.comparison_table(comparisons).set_index("network")
    assert table["policy"].tolist() == 2 * [*study.POLICIES[1:]]
    assert table["pairs"].tolist() == 4 * [3]
    assert table["difference"].tolist() == pytest.approx([1.1, 0, -1.1, 0])
    assert table["float32 sd"].tolist() == pytest.approx(4 * [5])
    text = report.comparison_markdown(comparisons, STUDY)
    assert (
        "| small | dfp16 | 3 | 55.00 | 5.00 | 56.10 | 5.10 | +1.10 | +0.85 to +1.35 | 0.00 | NO |"
        in text
    )
    assert "- large: 4 training and 2 test images of images, 3 epochs" in text


def test_a_half_finished_study_compares_its_pairs(finished):
    runs, rows = finished
    rows = rows[~((rows["name"] == "large") & (rows["policy"] == "dfp16"))]
    rows = rows[~((rows["policy"] == "float32") & (rows["seed"] == 2))]
    comparisons = report.compare_networks(runs, rows)
    found = [(c.name, c.policy, len(c.float32)) for c in comparisons]
    direct, winograd = study.POLICIES[1:]
    assert found == [("small", direct, 2), ("small", winograd, 2), ("large", winograd, 2)]


def test_ablation_table(tmp_path, monkeypatch):
    formats = {n: {"flush_every": i} for i, n in enumerate(("weight 9", "nearest 8", "flush 32"))}
    monkeypatch.setattr(study, "number_formats", lambda: formats)
    runs = study.ablation_runs(STUDY, range(2))
    better = {"weight 9": 0.02, "flush 32": -0.04}

    def accuracy(run):
        return 0.5 + 0.1 * run.seed + better.get(run.name, 0) * (1 + run.seed)

    append_all(tmp_path / "r.csv", runs, accuracy)
    table = report.ablation_table(runs, results.read_results(tmp_path / "r.csv"))
    by_format = table.set_index("format")
    assert by_format.loc["float32", ["mean", "difference"]].tolist() == pytest.approx([55, 0])
    assert by_format.loc["weight 9", "difference"] == pytest.approx(3)
    assert by_format.loc["flush 32", ["lowest", "highest"]].tolist() == pytest.approx([-8, -4])
    row = "| flush 32 | 2 | 49.00 | 4.24 | -6.00 | -8.00 | -4.00 |"
    assert row in report.ablation_markdown(table)
    plot.plot_ablation(table, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").stat().st_size > 10_000


def test_curves(finished, tmp_path):
    plot.plot_curves(finished[1], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_noise_table(tmp_path):
    rows = [("n", f"layer{i}", role, 9, 40.0 + i) for i in range(2) for role in ("x", "w")]
    noise = pd.DataFrame(rows, columns=["network", "layer", "role", "bits", "decibels"])
    text = report.noise_markdown(noise)
    assert "| network | layer | x (9 bits) | w (9 bits) |" in text
    assert "| n | layer1 | 41.0 | 41.0 |" in text
    plot.plot_noise(noise, tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > 5_000


def test_first_images_of_each_class_are_linked(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "source" / "train" / name
        folder.mkdir(parents=True)
        for index in range(3):
            (folder / f"{index}.jpg").write_text(f"{name}{index}")
    data.link_cifar(tmp_path / "source", "train", 2, tmp_path / "target")
    linked = {
        p.relative_to(tmp_path / "target").as_posix(): p.read_text()
        for p in tmp_path.glob("target/*/*")
    }
    assert linked == {f"{name}/{i}.jpg": f"{name}{i}" for name in ("cat", "dog") for i in range(2)}
    with pytest.raises(ValueError, match=r"cat: expected 4 images, got 3"):
        data.link_cifar(tmp_path / "source", "train", 4, tmp_path / "other")


def test_idx_files_become_folders_of_jpegs(tmp_path):
    import gzip

    from PIL import Image

    images = np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 784)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes(16) + images.tobytes())
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes(8) + bytes([1, 0, 1, 0, 0, 1]))
    data.write_fashion_mnist(tmp_path, "train", 2, tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/*/*")}
    assert found == {"1/00000.jpg", "1/00002.jpg", "0/00001.jpg", "0/00003.jpg"}
    image = Image.open(tmp_path / "out/0/00003.jpg")
    assert image.size == (28, 28) and image.getpixel((14, 14)) == pytest.approx(120, abs=2)


def gradients(function, x, w, dy):
    """The result and the gradients of both operands."""
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = function(x, w)
    return [y, *tape.gradient(y, [x, w], dy)]


def to_bfloat16(x):
    return np.asarray(x).astype(tf.bfloat16.as_numpy_dtype).astype(np.float32)


@pytest.mark.parametrize(
    ("layer", "x_shape", "product"),
    [
        (keras.layers.Dense, (8, 32), tf.matmul),
        (
            functools.partial(keras.layers.Conv2D, kernel_size=3),
            (2, 8, 8, 3),
            lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"),
        ),
    ],
)
def test_layers_that_round_to_bfloat16(layer, x_shape, product, monkeypatch):
    for owner, name in ((keras.layers.Conv2D, "convolution_op"), (keras.layers.Dense, "call")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # restored after the test
    bfloat16_train.replace_products()
    layer, x = layer(4, dtype="float32"), random_array(*x_shape)
    dy = random_array(*layer(x).shape)
    rounded = [tf.constant(to_bfloat16(array)) for array in (x, layer.kernel, dy)]
    expected = [to_bfloat16(array) for array in gradients(product, *rounded)]
    for run in (gradients, tf.function(gradients)):
        found = run(lambda x, w: layer(x), tf.constant(x), layer.kernel.value, tf.constant(dy))
        for result, value in zip(found, expected, strict=True):
            np.testing.assert_array_equal(result, value)

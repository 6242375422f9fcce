"""``dfpkeras train``: its files and table, resuming, and errors on wrong use."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from image_records import example, thumbnails, write_directory, write_records
from PIL import Image

from dfpkeras.callbacks import TrainingSpeed
from dfpkeras.cli.config import TrainConfig
from dfpkeras.cli.configure import configure
from dfpkeras.cli.main import main
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.data.tfrecords import ImageRecords

pytestmark = pytest.mark.slow

METRICS = [
    *("accuracy", "top_5_accuracy", "loss"),
    *("val_accuracy", "val_top_5_accuracy", "val_loss", "learning_rate"),
]

# For tests in which it does not matter what is trained.
TINY = ["--model", "interrupted_runs:tiny_model"]
MOBILENET = ["--model", "mobilenet", "--policy", "float32"]


def make_records(parent):
    """Writes 20 training and 4 validation images; returns the directory and its options."""
    directory = parent / "records"
    directory.mkdir()
    write_directory(directory, thumbnails(20))
    options = ["--data", directory, "--classes", 20, "--image-size", 16, "--batch-size", 4]
    return directory, [str(option) for option in options]


@pytest.fixture
def records(tmp_path):
    return make_records(tmp_path)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def train(runs, *options):
    return main(["train", "--runs-dir", str(runs), *map(str, options)])


def table_rows(printed):
    """Returns the cells of the printed table, by policy."""
    rows = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in printed.splitlines()
        if line.startswith(("│", "┃"))
    ]
    return {policy: list(cells) for policy, *cells in list(zip(*rows, strict=True))[1:]}


# The files of a run


def test_default_run_reaches_95_percent(runs, capsys):
    """4,000 real digits under dfp16, the first command of the README."""
    assert train(runs) == 0
    (run,) = runs.iterdir()
    printed = capsys.readouterr().out
    assert "Epoch 6/6  125 steps" in printed
    epochs, accuracy, *_ = table_rows(printed)["dfp16"]
    assert epochs == "6"
    assert float(accuracy.rstrip("%")) >= 95
    history = pd.read_csv(run / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["val_accuracy"].iloc[-1] == pytest.approx(float(accuracy[:-1]) / 100)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A run of both policies: its directory, and what the command printed."""
    parent = tmp_path_factory.mktemp("compared")
    _, options = make_records(parent)
    printed = io.StringIO()
    before = keras.config.dtype_policy()
    with contextlib.redirect_stdout(printed):
        command = ["--compare", "--name", "both", "--epochs", 2, "--seed", 4, *TINY, *options]
        assert train(parent / "runs", *command) == 0
    assert keras.config.dtype_policy() == before
    return RunDirectory(parent / "runs" / "both"), printed.getvalue()


def test_compare_writes_one_history(compared):
    run, _ = compared
    history = run.history()
    assert history["policy"].tolist() == ["dfp16", "dfp16", "float32", "float32"]
    assert history["epoch"].tolist() == [1, 2, 1, 2]
    # The first step of a policy's run is not timed: 4 of 20 images.
    assert history["timed_images"].tolist() == [16, 20, 16, 20]
    assert np.isfinite(history[[*METRICS, "images_per_second"]].to_numpy()).all()
    # Same weights, batches and schedule: the policies differ by rounding alone.
    first, second = (history[history["policy"] == policy] for policy in ("dfp16", "float32"))
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=0.1)
    assert first["learning_rate"].tolist() == second["learning_rate"].tolist()


def test_compare_prints_a_row_per_policy(compared):
    run, printed = compared
    history = run.history()
    rows = table_rows(printed)
    assert list(rows) == ["dfp16", "float32"]
    for policy, cells in rows.items():
        mine = history[history["policy"] == policy]
        speed = mine["timed_images"].sum() / mine["timed_seconds"].sum()
        last = mine.iloc[-1]
        accuracies = [f"{last['val_accuracy']:.2%}", f"{last['val_top_5_accuracy']:.2%}"]
        assert cells[:3] == ["2", *accuracies]
        assert float(cells[3]) == pytest.approx(speed, rel=0.01)
        assert cells[4] == f"{mine['train_seconds'].sum():.1f} s"


def test_a_run_leaves_its_configuration_and_a_picture(compared):
    run, _ = compared
    names = ["checkpoints", "config.json", "curves.png", "history.csv"]
    assert sorted(path.name for path in run.path.iterdir()) == names
    with Image.open(run.curves_path) as picture:
        assert min(picture.size) > 400
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    config = json.loads(run.config_path.read_text())
    expected = {"epochs": 2, "batch_size": 4, "seed": 4, "classes": 20, "image_size": 16}
    assert expected.items() <= config["hyperparameters"].items()
    assert config["hyperparameters"]["policies"] == ["dfp16", "float32"]
    assert config["versions"]["keras"] == keras.__version__
    assert config["data"]["num_train"] == 20


def test_checkpoints_hold_the_model_its_policy_and_its_optimizer(compared):
    run, _ = compared
    for policy in ("dfp16", "float32"):
        checkpoints = sorted((run.path / "checkpoints" / policy).iterdir())
        assert [path.name for path in checkpoints] == ["epoch-0001.keras", "epoch-0002.keras"]
        models = [keras.models.load_model(path) for path in checkpoints]
        assert [int(model.optimizer.iterations.numpy()) for model in models] == [5, 10]
        # The input layer, which computes nothing, has no policy.
        assert {layer.dtype_policy.name for layer in models[0].layers[1:]} == {policy}
        variables = models[0].optimizer.variables
        momenta = [variable for variable in variables if "momentum" in variable.path]
        assert momenta
        assert all(np.abs(variable.numpy()).max() > 0 for variable in momenta)


def test_compare_resumes_where_it_stopped(compared):
    """The first policy is complete; the second has a row of history without a checkpoint."""
    run, _ = compared
    unbroken = run.history()
    run.latest_checkpoint("float32")[0].unlink()
    unchanged = run.latest_checkpoint("dfp16")[0].stat().st_mtime_ns
    assert train(run.path.parent, "--resume") == 0
    assert run.latest_checkpoint("float32")[1] == 2
    assert run.latest_checkpoint("dfp16")[0].stat().st_mtime_ns == unchanged
    columns = ["epoch", *METRICS]
    np.testing.assert_allclose(run.history()[columns], unbroken[columns], rtol=1e-4)


def test_a_model_of_keras_applications(runs, records):
    _, options = records
    options[options.index("--image-size") + 1] = "32"
    assert train(runs, "--name", "m", *MOBILENET, "--epochs", 1, *options) == 0
    model = keras.models.load_model(runs / "m" / "checkpoints" / "float32" / "epoch-0001.keras")
    assert model.name.startswith("mobilenet")
    assert model.output_shape == (None, 20)


EVERY_OPTION = shlex.split("""
    --model interrupted_runs:tiny_model --recipe vgg16 --classes 20 --image-size 16 --epochs 2
    --steps-per-epoch 1 --batch-size 4 --seed 3 --learning-rate 0.01 --base-batch-size 8
    --warmup-epochs 0.5 --schedule exponential --decay-epochs 1 --decay-every-epochs 1
    --decay-factor 0.5 --momentum 0.8 --nesterov --weight-decay 0.01 --weight-decay-exempt bias
    gamma --label-smoothing 0.2 --auxiliary-weights --train-crop pad --train-resize 17 20
    --crop-area 0.5 0.9 --crop-aspect-ratio 0.9 1.1 --pad 2 --no-horizontal-flip --lighting 0.2
    --evaluation-resize 18 --mean 0.1 0.2 0.3 --std 0.3 0.2 0.1
""")


def test_every_hyperparameter_is_an_option_and_recorded(runs, records):
    """Two epochs of one step each with other values than the recipe's everywhere.

    Settings that the chosen schedule and crop do not use are left out of config.json.
    """
    directory, _ = records
    options = ["--name", "x", "--policy", "float32", "--data", directory, *EVERY_OPTION]
    assert train(runs, *options) == 0
    given = json.loads((runs / "x" / "config.json").read_text())["hyperparameters"]
    assert given == {
        "policies": ["float32"], "model": "interrupted_runs:tiny_model", "recipe": "vgg16",
        "data": str(directory), "classes": 20, "image_size": 16, "epochs": 2,
        "steps_per_epoch": 1, "batch_size": 4, "seed": 3, "learning_rate": 0.01,
        "base_batch_size": 8, "warmup_epochs": 0.5, "schedule": "exponential",
        "decay_every_epochs": 1.0, "decay_factor": 0.5, "momentum": 0.8,
        "nesterov": True, "weight_decay": 0.01, "weight_decay_exempt": ["bias", "gamma"],
        "label_smoothing": 0.2, "auxiliary_weights": [], "train_crop": "pad",
        "pad": 2, "horizontal_flip": False, "lighting": 0.2, "evaluation_resize": 18,
        "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1],
    }  # fmt: skip
    history = RunDirectory(runs / "x").history()
    # 0.01 for 8 images is 0.005 for 4; both epochs have one step, and half of it after each.
    np.testing.assert_allclose(history["learning_rate"], [0.0025, 0.00125], rtol=1e-6)
    assert history["timed_images"].tolist() == [0, 4]


def test_the_digits_are_not_recorded_as_augmented():
    recorded = configure({}).as_dict()
    assert recorded["schedule"] == "cosine"
    assert not {"decay_factor", "train_crop", "pad", "horizontal_flip", "mean"} & recorded.keys()


def test_every_hyperparameter_is_explained(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    explained = capsys.readouterr().out
    for field in dataclasses.fields(TrainConfig):
        name = {"policies": "policy"}.get(field.name, field.name)
        assert f"--{name.replace('_', '-')}" in explained
        assert len(field.metadata["help"]) >= 10


def test_speed_counts_the_images_of_the_steps_but_the_first(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 21.0, 30.0, 32.0, 40.0, 42.0, 50.0, 52.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    speed = TrainingSpeed(num_images=10, batch_size=4)
    expected = [(7.0, 6, 3.0), (6.0, 10, 10 / 6)]
    for epoch, (train_seconds, images, images_per_second) in enumerate(expected):
        speed.on_epoch_begin(epoch)
        for batch in range(3):
            speed.on_train_batch_begin(batch)
            speed.on_train_batch_end(batch)
        assert (speed.train_seconds, speed.timed_images) == (train_seconds, images)
        assert speed.images_per_second == pytest.approx(images_per_second)


# Interrupted runs


def begin_run(runs, name, directory, epochs=1):
    """Writes the configuration of a run of ``make_records``' data, as if it had just begun."""
    config = TrainConfig(
        policies=("float32",), data=str(directory), classes=20, image_size=16, epochs=epochs
    )
    run = RunDirectory.create(runs, name)
    run.write_config(config, data=ImageRecords(directory, 16, 20).describe(), versions={})
    return run


def test_resume_takes_the_newest_run_and_says_when_it_is_complete(runs, records, capsys):
    directory, _ = records
    begin_run(runs, "z-first", directory)
    run = begin_run(runs, "a-second", directory)
    metrics = dict.fromkeys([*METRICS, "timed_images", "timed_seconds", "train_seconds"], 0.5)
    run.add_to_history({"policy": "float32", "epoch": 1, **metrics})
    model = keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])
    model.compile("sgd", "mse")
    run.save_checkpoint(model, "float32", 1)
    before = run.history_path.read_text()
    assert train(runs, "--resume") == 0
    printed = capsys.readouterr().out
    assert "a-second" in printed
    assert "Epoch" not in printed
    assert table_rows(printed) == {"float32": ["1", "50.00%", "50.00%", "1", "0.5 s"]}
    assert run.history_path.read_text() == before


def test_an_interrupt_tells_how_to_resume(runs, records):
    _, options = records
    command = [sys.executable, "-P", "-m", "dfpkeras_command", "train", "--runs-dir", str(runs)]
    command += ["--name", "stopped", "--policy", "float32", "--epochs", "100000", *options]
    # A shell's background jobs, of which this may be one, ignore Ctrl-C, and so do their children.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            deadline = time.monotonic() + 100
            while not (runs / "stopped" / "history.csv").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert (
        errors.strip()
        .splitlines()[-1]
        .endswith(f"dfpkeras train --resume --name stopped --runs-dir {runs}")
    )
    assert RunDirectory(runs / "stopped").latest_checkpoint("float32")[1] >= 0


# Wrong use


def error_of(capsys, runs, *options):
    """Runs the command, which must fail, and returns its error: one line, without traceback."""
    assert train(runs, *options) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("dfpkeras train: error: ")
    return line


def test_a_bad_record_met_in_training_is_named(runs, records, capsys):
    directory, options = records
    jpeg = thumbnails(20)[0]
    path = directory / "train-00000-of-00003"
    write_records(path, [example(jpeg, 1), example(jpeg[:-50], 1), example(jpeg, 1)])
    error = error_of(capsys, runs, "--name", "x", "--policy", "float32", *TINY, *options)
    assert re.search(f"{re.escape(str(path))}: record 1 .*JPEG .* truncated", error)
    assert RunDirectory(runs / "x").latest_checkpoint("float32") == (None, 0, 0)


def test_a_bad_record_met_in_validation_is_named(runs, records, capsys):
    directory, options = records
    jpeg = thumbnails(20)[0]
    path = directory / "validation-00000-of-00002"
    write_records(path, [example(jpeg, 1), example(jpeg, 1), example(jpeg, 21)])
    error = error_of(capsys, runs, "--policy", "float32", *TINY, *options)
    assert re.search(f"{re.escape(str(path))}: record 2 .*label is 21, .* 20", error)


def test_bad_data_leave_no_run(runs, tmp_path, records, capsys):
    assert "no such directory" in error_of(capsys, runs, "--data", tmp_path / "nowhere")
    assert "no files train-*" in error_of(capsys, runs, "--data", tmp_path)
    directory, _ = records
    write_records(directory / "train-00000-of-00003", [example(label=1)])
    error = error_of(capsys, runs, "--data", directory)
    assert "train-00000-of-00003: record 0" in error
    assert "image/encoded" in error
    assert list(runs.iterdir()) == []


def test_an_unwritable_run_directory_is_named_before_any_work(runs, capsys, monkeypatch):
    monkeypatch.setattr("dfpkeras.cli.train._load_data", lambda config: pytest.fail("work done"))
    runs.write_text("a file where the directory should be")
    error = error_of(capsys, runs, "--name", "x")
    assert f"run directory {runs / 'x'} cannot be written to: Not a directory" in error


def test_a_run_is_not_overwritten(runs, records, capsys):
    directory, options = records
    begin_run(runs, "x", directory)
    assert "already holds a run" in error_of(capsys, runs, "--name", "x", *options)


def test_resume_refuses_other_hyperparameters_and_data(runs, records, capsys):
    directory, _ = records
    begin_run(runs, "x", directory)
    for option, value, message in (
        ("--model", "ResNet50", "the run has model = resnet-small, got ResNet50"),
        ("--epochs", 2, "the run has epochs = 1, got 2"),
        ("--policy", "dfp16", "the run has policies = float32, got dfp16"),
        ("--data", directory / "..", "no files train-*"),
    ):
        assert message in error_of(capsys, runs, "--resume", option, value)
    first, second = (directory / f"train-{i:05}-of-00003" for i in range(2))
    first.write_bytes(second.read_bytes() * 2)
    assert "these are not the data of the run" in error_of(capsys, runs, "--resume")
    first.unlink()
    assert f"{first}: missing" in error_of(capsys, runs, "--resume")


def test_resume_without_a_run(runs, capsys):
    assert "no run to resume in" in error_of(capsys, runs, "--resume")
    assert "x/config.json does not exist" in error_of(capsys, runs, "--resume", "--name", "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet5000"], "unknown model 'resnet5000'"),
        (["--model", "ResNet50", "--image-size", "8"], "--image-size 8: Input size must be"),
        (["--classes", "5"], "--classes needs --data"),
        (["--pad", "2"], "--pad needs --data"),
        (["--auxiliary-weights", "0.3"], "model 'resnet-small' has no auxiliary heads"),
        (["--recipe", "resnet51"], "--recipe: resnet51: no such recipe; expected one of alexnet"),
    ],
)
def test_wrong_options(runs, capsys, options, message):
    assert message in error_of(capsys, runs, *options)
    assert not runs.exists() or list(runs.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs: must be an integer of at least 1, got 0"),
        (["--batch-size", "many"], "--batch-size: must be an integer of at least 1, got many"),
        (["--learning-rate", "nan"], "--learning-rate: must be a number greater than 0"),
        (["--seed", "-1"], "--seed: must be an integer from 0 to 2147483647, got -1"),
        (["--name", "../x"], "--name: must be the name of a directory, not a path"),
        (["--schedule", "linear"], "--schedule: must be one of cosine, steps, exponential"),
        (["--warmup-epochs", "-1"], "--warmup-epochs: must be a number of at least 0"),
        (["--crop-area", "0.5"], "--crop-area: expected 2 arguments"),
        (
            ["--policy", "int8"],
            "--policy: must be float32, dfp16 or dfp16(name=value, ...), got int8",
        ),
        (["--policy", "dfp16(bits=9)"], "expected one of activation_bits"),
        (["--policy", "dfp16(weight_bits=x)"], "weight_bits: expected an integer, got str"),
        (["--compare", "--policy", "dfp16"], "not allowed with argument"),
    ],
)
def test_options_that_argparse_refuses(runs, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        train(runs, *options)
    assert message in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run(runs, records, capsys):
    _, options = records
    run = ["--name", "x", "--policy", "float32", "--learning-rate", "1e30"]
    error = error_of(capsys, runs, *run, *TINY, *options)
    assert re.search(r"the loss became (nan|inf) in epoch \d+, step \d+; try a lower", error)


def test_missing_packages_name_the_extra(runs, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "mlxtend" else find_spec(name, package),
    )
    error = error_of(capsys, runs)
    assert "mlxtend" in error
    assert 'pip install "dfpkeras[train]"' in error
    assert not runs.exists()


def test_another_backend_is_refused(runs, capsys, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert "Keras' backend is torch; expected TensorFlow" in error_of(capsys, runs)


# Run directories


def test_a_new_epoch_replaces_rows_of_later_ones(runs):
    run = RunDirectory.create(runs, "x")
    for policy, epoch, loss in (("a", 1, 0.5), ("a", 2, 0.4), ("b", 1, 0.3), ("a", 3, 0.2)):
        run.add_to_history({"policy": policy, "epoch": epoch, "loss": loss})
    run.add_to_history({"policy": "a", "epoch": 2, "loss": 0.1})
    assert run.history().to_numpy().tolist() == [["a", 1, 0.5], ["b", 1, 0.3], ["a", 2, 0.1]]


def test_a_config_survives_its_file(runs):
    run = RunDirectory.create(runs, "x")
    config = TrainConfig(policies=("dfp16", "float32"), data="/somewhere", seed=7)
    run.write_config(config, data={"num_train": 3})
    found, details = run.read_config()
    assert found == config
    assert details["data"] == {"num_train": 3}

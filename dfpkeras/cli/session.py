"""Training under one dtype policy, with ``keras.Model.fit``."""

import contextlib
import gc

import keras
import tensorflow as tf

from dfpkeras.callbacks import DataPosition, StopOnNonFiniteLoss, TrainingSpeed
from dfpkeras.models import scales_its_input
from dfpkeras.training import (
    compile_model,
    labels_for_every_output,
    metric_name,
    steps_per_epoch,
)


def train_policy(policy, config, data, run, callbacks=()):
    """Trains the model of a run under a policy, from its last checkpoint if there is one.

    Each call begins a session of its own: a cleared Keras, random generators seeded anew, so that
    models of several policies begin with the same weights and see the same batches.

    Args:
        policy: name of a dtype policy; every layer of the model gets it.
        config: ``TrainConfig``.
        data: ``dfpkeras.data.dataset.ImageData``.
        run: ``RunDirectory`` for checkpoints and history.
        callbacks: further Keras callbacks.

    Raises:
        DataError: a record cannot be read; names the file and the record.
        FloatingPointError: the loss became NaN or infinite.
    """
    checkpoint, initial_epoch = run.latest_checkpoint(policy)
    if initial_epoch >= config.epochs:
        return
    with _session(policy, config.seed):
        model = keras.models.load_model(checkpoint) if checkpoint else compile_model(config, data)
        _fit(model, policy, config, data, run, initial_epoch, callbacks)


@contextlib.contextmanager
def _session(policy, seed):
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


def _fit(model, policy, config, data, run, initial_epoch, callbacks):
    normalize = not scales_its_input(model)
    position = DataPosition(initial_epoch)
    recorder = RunRecorder(policy, config, data, run)
    steps = steps_per_epoch(config, data)
    batches = data.train_batches(
        config.batch_size,
        config.seed,
        initial_epoch,
        config.epochs,
        normalize,
        steps_per_epoch=steps,
    )
    held_out = data.validation_batches(config.batch_size, normalize)
    try:
        model.fit(
            labels_for_every_output(model, batches),
            validation_data=labels_for_every_output(model, held_out),
            initial_epoch=initial_epoch,
            epochs=config.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[position, StopOnNonFiniteLoss(), recorder, *callbacks],
        )
    except tf.errors.OpError:
        data.raise_for_bad_record(
            position.split, position.epoch, position.batch, config.batch_size, config.seed
        )
        raise


class RunRecorder(TrainingSpeed):
    """Writes a row of history and a checkpoint after each epoch, and measures the speed.

    The row comes first: a run that ends between the two resumes from the checkpoint before, and
    then writes the row again.

    Args:
        policy, config, data, run: as for ``train_policy``.
    """

    def __init__(self, policy, config, data, run):
        super().__init__(data.num_train, config.batch_size)
        self._policy = policy
        self._run = run

    def on_epoch_end(self, epoch, logs=None):
        self._run.add_to_history(
            {
                "policy": self._policy,
                "epoch": epoch + 1,
                **{metric_name(name): float(value) for name, value in logs.items()},
                "learning_rate": float(self.model.optimizer.learning_rate),
                "images_per_second": self.images_per_second,
                "train_seconds": self.train_seconds,
                "timed_images": self.timed_images,
                "timed_seconds": self.timed_seconds,
            }
        )
        self._run.save_checkpoint(self.model, self._policy, epoch + 1)

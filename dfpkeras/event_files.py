"""Event files for TensorBoard."""

import socket
import time
import warnings

import keras
import tensorflow as tf


class EventFiles(keras.callbacks.Callback):
    """Writes event files for TensorBoard, which need not be installed.

    The step is the optimizer's, so that a resumed run continues where it was; repeated steps give
    the same values. Training writes what ``fit`` shows, the averages since the epoch began, and the
    learning rate; the held-out metrics have the same names in a separate directory, so that
    TensorBoard draws both in one diagram.

    Args:
        directory: ``pathlib.Path``; gets the subdirectories ``train`` and ``validation``.
        every: number of steps between two entries of training.
    """

    def __init__(self, directory, every=100):
        super().__init__()
        self._every = every
        self._files = {split: EventFile(directory / split) for split in ("train", "validation")}

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) % self._every == 0:
            self._write("train", logs)

    def on_epoch_end(self, epoch, logs=None):
        held_out = {name for name in logs if name.startswith("val_")}
        self._write("train", {name: logs[name] for name in logs.keys() - held_out})
        self._write("validation", {name.removeprefix("val_"): logs[name] for name in held_out})

    def _write(self, split, values):
        optimizer = self.model.optimizer
        if split == "train":
            values = values | {"learning_rate": float(optimizer.learning_rate)}
        self._files[split].write(int(optimizer.iterations), values)


class EventFile:
    """A new file of ``tf.compat.v1.Event`` records: TensorFlow's own writer needs TensorBoard.

    Args:
        directory: ``pathlib.Path``, created if necessary.
    """

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._writer = tf.io.TFRecordWriter(str(directory / name))
        self._write_event(file_version="brain.Event:2")

    def write(self, step, values):
        """Writes scalars at a step."""
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        self._write_event(step=step, summary=summary)

    def _write_event(self, **content):
        event = tf.compat.v1.Event(wall_time=time.time(), **content)
        try:
            self._writer.write(event.SerializeToString())
            self._writer.flush()
        except tf.errors.OpError as error:
            warnings.warn(f"an event for TensorBoard is lost: {error.message}", stacklevel=2)

"""Keras callbacks."""

import math
import time

import keras

from dfpkeras.monitor.callback import DFPMonitor

__all__ = [
    "DFPMonitor",
    "DataPosition",
    "PositionedCallbackList",
    "StopOnNonFiniteLoss",
    "TrainingSpeed",
]

_SPEED = ("train_seconds", "timed_images", "timed_seconds")


class TrainingSpeed(keras.callbacks.Callback):
    """Measures how many images a second the training steps take.

    A step is what ``fit`` does between ``on_train_batch_begin`` and ``on_train_batch_end``:
    waiting for the batch, forward, backward and the update of the weights. Validation, checkpoints
    and other callbacks do not count, nor does the first step of a run, which traces the graph.

    Args:
        num_images: images in an epoch.
        batch_size: images in every batch but the last, which holds the rest.

    Attributes:
        train_seconds: time in the steps of the current or last epoch, the first one included.
        timed_images, timed_seconds: images and time of its steps, the first of the run excluded.
    """

    def __init__(self, num_images, batch_size):
        super().__init__()
        self._num_images = num_images
        self._batch_size = batch_size
        self._traced = False
        self._start = None
        self._reset()

    def state(self):
        """Returns the attributes as a dict."""
        return {name: getattr(self, name) for name in _SPEED}

    def restore(self, state):
        """Continues counting from what ``state`` returned."""
        vars(self).update(state)

    @property
    def images_per_second(self):
        """Speed of the current or last epoch, NaN if none of its steps counts."""
        return self.timed_images / self.timed_seconds if self.timed_images else math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self._reset()

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        seconds = time.perf_counter() - self._start
        self.train_seconds += seconds
        if self._traced:
            self.timed_seconds += seconds
            self.timed_images += min(self._batch_size, self._num_images - batch * self._batch_size)
        self._traced = True

    def _reset(self):
        self.train_seconds = 0.0
        self.timed_images = 0
        self.timed_seconds = 0.0


class DataPosition(keras.callbacks.Callback):
    """Remembers which batch is being read, so that an error in it can be explained.

    Args:
        initial_epoch: the first epoch of the run.

    Attributes:
        split: ``"train"`` or ``"validation"``.
        epoch, batch: counted from 0.
    """

    def __init__(self, initial_epoch):
        super().__init__()
        self.split, self.epoch, self.batch = "train", initial_epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.split, self.batch = "train", batch

    def on_test_begin(self, logs=None):
        self.split, self.batch = "validation", 0

    def on_test_batch_begin(self, batch, logs=None):
        self.split, self.batch = "validation", batch


class PositionedCallbackList(keras.callbacks.CallbackList):
    """Gives its callbacks the true batch numbers in an epoch whose first batches are left out.

    Args:
        callbacks: list of callbacks.
        first_batch: number of batches left out.
        **arguments: arguments of ``keras.callbacks.CallbackList``.
    """

    def __init__(self, callbacks, first_batch, **arguments):
        super().__init__(callbacks, add_history=True, **arguments)
        self._first_batch = first_batch

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(self._first_batch + batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(self._first_batch + batch, logs)


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends training with an error as soon as the loss is NaN or infinite.

    ``keras.callbacks.TerminateOnNaN`` lets ``fit`` return as if the epoch were complete, so that
    a checkpoint callback would save the unusable weights; this one raises.

    Raises:
        FloatingPointError: names the epoch and the step.
    """

    def __init__(self):
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}"
            )

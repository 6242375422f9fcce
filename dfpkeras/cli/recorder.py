"""What training writes to the run directory."""

import contextlib
import signal
import sys
import threading
import time

from dfpkeras.callbacks import TrainingSpeed
from dfpkeras.cli.errors import CommandError
from dfpkeras.training import metric_name
from dfpkeras.training.checkpoints import restore_metrics

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunRecorder(TrainingSpeed):
    """Writes rows of history and checkpoints, and measures the speed.

    After an epoch its row is written first: a run that ends between the two resumes from the
    previous checkpoint, and then writes the row again. When a file cannot be written, training
    continues with a warning; the row is kept and written with the next one, and the previous
    checkpoint stays.

    Args:
        run: ``RunDirectory``.
        policy: name of the policy.
        num_images: images in an epoch.
        batch_size: images in every batch but the last, which holds the rest.
        checkpoint_minutes: time between two checkpoints within an epoch.
    """

    def __init__(self, run, policy, num_images, batch_size, checkpoint_minutes):
        super().__init__(num_images, batch_size)
        self._run = run
        self._policy = policy
        self._interval = 60 * checkpoint_minutes
        self._last_time = time.monotonic()
        self._epoch = 0
        self._unwritten_rows = []
        self._resumed = None
        self._stop_requested = False
        self._error = None

    def resume(self, progress, metrics):
        """Lets the next epoch begin where it was when a checkpoint was written.

        Args:
            progress, metrics: as ``restore_checkpoint`` returned them.
        """
        self._resumed = progress["speed"], metrics

    def finish(self):
        """Tries again to write what could not be written.

        Raises:
            CommandError: it still cannot be written.
        """
        if self._error:
            self._save(self._epoch + 1)

    @contextlib.contextmanager
    def stopped_by_signals(self):
        """Lets Ctrl-C, SIGTERM and SIGHUP end training after the current step, with a checkpoint.

        A second signal does not wait for the step. One that the process was started to ignore, as
        ``nohup`` does with SIGHUP, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in _STOPPING}
        for number, handler in previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._request_stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch
        if self._resumed:
            speed, metrics = self._resumed
            self.restore(speed)
            restore_metrics(self.model, metrics)
            self._resumed = None

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        # After the last step the epoch's own checkpoint is next.
        due = self._stop_requested or time.monotonic() >= self._last_time + self._interval
        if due and batch + 1 < self.params["steps"]:
            with self._warning_of_errors():
                self._save(self._epoch, batch + 1)
        self._stop_if_requested()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_requested()

    def on_epoch_end(self, epoch, logs=None):
        self._unwritten_rows.append(
            {
                "policy": self._policy,
                "epoch": epoch + 1,
                **{metric_name(name): float(value) for name, value in logs.items()},
                "learning_rate": float(self.model.optimizer.learning_rate),
                "images_per_second": self.images_per_second,
                **self.state(),
            }
        )
        with self._warning_of_errors():
            self._save(self._epoch + 1)

    def _save(self, epoch, batch=0):
        """Writes rows before the checkpoint, after which they are not computed again."""
        self._last_time = time.monotonic()
        while self._unwritten_rows:
            self._run.add_to_history(self._unwritten_rows[0])
            del self._unwritten_rows[0]
        self._run.save_checkpoint(self.model, self._policy, epoch, batch, speed=self.state())
        self._last_time = time.monotonic()

    @contextlib.contextmanager
    def _warning_of_errors(self):
        self._error = None
        try:
            yield
        except CommandError as error:
            self._error = error
            message = f"{error}; training continues, and the previous checkpoint is kept"
            print(f"\ndfpkeras train: warning: {message}", file=sys.stderr)

    def _request_stop(self, number, frame):
        if self._stop_requested:
            raise KeyboardInterrupt
        self._stop_requested = True

    def _stop_if_requested(self):
        if self._stop_requested:
            raise KeyboardInterrupt

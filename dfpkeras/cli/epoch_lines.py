"""What a user sees of training: a bar on a terminal, plain lines elsewhere."""

import time

import keras
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from dfpkeras.console import is_live, make_console, make_progress

_SECONDS_BETWEEN_LINES = 300


class EpochLines(keras.callbacks.Callback):
    """Prints a line after each epoch; until then draws a bar, or prints a line every five minutes.

    Args:
        first_batch: number of batches of the first epoch that were done before.
    """

    def __init__(self, first_batch=0):
        super().__init__()
        self._first_batch = first_batch
        self._console = make_console()
        self._progress = self._bar = None
        self._begin = self._last_line = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._name = f"Epoch {epoch + 1}/{self.params['epochs']}"
        self._begin = self._last_line = time.monotonic()
        self._progress = make_progress(
            "description", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
        )
        self._bar = self._progress.add_task(
            self._name, total=self.params["steps"], completed=self._first_batch
        )
        self._first_batch = 0
        self._progress.start()

    def on_train_batch_end(self, batch, logs=None):
        self._progress.update(
            self._bar, completed=batch + 1, description=f"{self._name}  {_describe(logs)}"
        )
        now = time.monotonic()
        if not is_live(self._console) and now >= self._last_line + _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print(f"{self._name}, step {batch + 1}/{self.params['steps']}", logs)

    def on_epoch_end(self, epoch, logs=None):
        self.stop()
        seconds = time.monotonic() - self._begin
        self._print(f"{self._name}  {self.params['steps']} steps  {seconds:.1f} s", logs)

    def stop(self):
        """Takes the bar away."""
        if self._progress:
            self._progress.stop()

    def _print(self, beginning, logs):
        # Lines that a terminal does not wrap are not cut for a file either.
        wrapped = {} if self._console.is_terminal else {"soft_wrap": True}
        self._console.print(f"{beginning}  {_describe(logs)}", highlight=False, **wrapped)


def _describe(logs):
    return "  ".join(f"{name} {float(value):.4f}" for name, value in logs.items())

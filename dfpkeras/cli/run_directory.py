"""The files of a training run."""

import contextlib
import datetime
import json
import os
import re
from pathlib import Path

from dfpkeras.cli.config import TrainConfig
from dfpkeras.cli.errors import CommandError

_CHECKPOINT = re.compile(r"epoch-(\d+)\.keras")


class RunDirectory:
    """A directory with the files of one run.

    ``config.json``
        hyper-parameters, versions and data of the run.
    ``history.csv``
        a row per policy and epoch.
    ``checkpoints/<policy>/epoch-NNNN.keras``
        the model and its optimizer after each epoch, counted from 1.
    ``curves.png``
        the plotted history.

    A file is written under a temporary name and then renamed, so that one that bears its name is
    whole.

    Args:
        path: the directory.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.history_path = self.path / "history.csv"
        self.curves_path = self.path / "curves.png"

    @classmethod
    def create(cls, runs_dir, name):
        """Makes a new directory ``runs_dir/name`` and proves that it can be written to.

        Raises:
            CommandError: it holds a run already, or cannot be written to.
        """
        run = cls(Path(runs_dir) / name)
        if run.config_path.exists():
            raise CommandError(
                f"run directory {run.path} holds a run already: give another --name, or --resume"
            )
        run._prove_writable()
        return run

    @classmethod
    def find(cls, runs_dir, name=None):
        """Returns the run of that name, or the one begun last.

        Raises:
            CommandError: there is no such run, or it cannot be written to.
        """
        if name is None:
            runs = [cls(path.parent) for path in Path(runs_dir).glob("*/config.json")]
            if not runs:
                raise CommandError(f"no run to resume in {runs_dir}")
            run = max(runs, key=lambda run: run.read_config()[1]["created"])
        else:
            run = cls(Path(runs_dir) / name)
            if not run.config_path.exists():
                raise CommandError(f"no run to resume: {run.config_path} does not exist")
        run._prove_writable()
        return run

    def discard_if_empty(self):
        """Removes the directory if the run wrote nothing to it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def write_config(self, config, **details):
        """Writes the ``TrainConfig``, the time, and further details."""
        now = datetime.datetime.now(datetime.UTC)
        content = {"created": now.isoformat(), "hyperparameters": config.as_dict(), **details}
        _replace(self.config_path, lambda path: path.write_text(json.dumps(content, indent=2)))

    def read_config(self):
        """Returns the ``TrainConfig`` and the other content of config.json as a dict."""
        try:
            content = json.loads(self.config_path.read_text())
        except (OSError, ValueError) as error:
            raise CommandError(f"{self.config_path}: cannot be read: {error}") from error
        try:
            return TrainConfig.from_dict(content.pop("hyperparameters")), content
        except (KeyError, TypeError) as error:
            raise CommandError(
                f"{self.config_path}: not written by this version of dfpkeras"
            ) from error

    def save_checkpoint(self, model, policy, epoch):
        """Saves the model and its optimizer after an epoch (counted from 1)."""
        path = self._checkpoints(policy) / f"epoch-{epoch:04d}.keras"
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, model.save)

    def latest_checkpoint(self, policy):
        """Returns the path of the last checkpoint and its epoch, or ``(None, 0)``."""
        epochs = {
            int(match[1]): path
            for path in self._checkpoints(policy).glob("*.keras")
            if (match := _CHECKPOINT.fullmatch(path.name))
        }
        last = max(epochs, default=0)
        return epochs.get(last), last

    def history(self):
        """Returns the rows written so far as a pandas.DataFrame, possibly empty."""
        import pandas as pd

        if not self.history_path.exists():
            return pd.DataFrame(columns=["policy", "epoch"])
        return pd.read_csv(self.history_path)

    def add_to_history(self, row):
        """Appends a row; one that is there for the same policy and epoch or later is replaced."""
        import pandas as pd

        rows = self.history()
        later = (rows["policy"] == row["policy"]) & (rows["epoch"] >= row["epoch"])
        kept = rows[~later]
        new = pd.DataFrame([row])
        rows = pd.concat([kept, new], ignore_index=True) if len(kept) else new
        _replace(self.history_path, lambda path: rows.to_csv(path, index=False))

    def save_curves(self, figure):
        """Saves a matplotlib figure."""
        _replace(self.curves_path, figure.savefig)

    def _checkpoints(self, policy):
        return self.path / "checkpoints" / policy

    def _prove_writable(self):
        probe = self.path / ".probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise CommandError(
                f"run directory {self.path} cannot be written to: {error.strerror}"
            ) from error


def _replace(path, write):
    """Lets ``write`` make a file under a temporary name, and gives it its own when it is whole."""
    temporary = path.with_name(f".partial-{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}") from error

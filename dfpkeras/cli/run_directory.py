"""The files of a training run."""

import contextlib
import csv
import datetime
import functools
import io
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

from dfpkeras.cli.config import TrainConfig
from dfpkeras.cli.errors import CommandError
from dfpkeras.files import PARTIAL, hold_directory, read_regular_file, write_atomically
from dfpkeras.monitor.records import NAME as MONITOR_NAME

_write = functools.partial(write_atomically, error_type=CommandError)
_CHECKPOINT = re.compile(r"epoch-(\d+)(?:-batch-(\d+))?\.keras")
_KEPT_EPOCHS = 3


class Checkpoint(NamedTuple):
    """Where a checkpoint is, and when it was made.

    Attributes:
        path: path of the file; None for the beginning of a run.
        epoch: number of complete epochs.
        batch: number of training steps done in the next one.
    """

    path: Path | None = None
    epoch: int = 0
    batch: int = 0


class RunDirectory:
    """A directory with the files of one run.

    ``config.json``
        hyper-parameters, versions and data of the run.
    ``history.csv``
        a row per policy and epoch.
    ``checkpoints/<policy>/epoch-NNNN.keras``
        a checkpoint after that many epochs: of the last three, and of the one with the highest
        held-out accuracy.
    ``checkpoints/<policy>/epoch-NNNN-batch-NNNNNN.keras``
        the last checkpoint within an epoch, until that epoch is complete.
    ``tensorboard/<policy>``
        event files, if they were asked for.
    ``monitor.csv``, ``monitor.png``
        how well integers represented the tensors, and its heat map, if they were asked for.
    ``curves.png``
        the plotted history.

    A file is written under a temporary name, flushed to disk and then renamed, so that a file with
    its final name is complete.

    Args:
        path: the directory.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.history_path = self.path / "history.csv"
        self.curves_path = self.path / "curves.png"
        self.tensorboard_path = self.path / "tensorboard"
        self.monitor_path = self.path / MONITOR_NAME
        self._config_text = None

    @classmethod
    def create(cls, runs_dir, name):
        """Makes a new directory ``runs_dir/name`` and checks that it can be written to.

        Raises:
            CommandError: it already holds a run, or cannot be written to.
        """
        run = cls(Path(runs_dir) / name)
        if run.config_path.exists():
            raise CommandError(
                f"run directory {run.path} already holds a run: give another --name, or --resume"
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

    @contextlib.contextmanager
    def hold(self):
        """Keeps other processes from training the same run.

        Raises:
            CommandError: another process is training it.
        """
        occupied = CommandError(f"run directory {self.path}: another process is training this run")
        with hold_directory(self.path, occupied):
            yield

    def discard_if_empty(self):
        """Removes the directory if the run wrote nothing to it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def write_config(self, config, **details):
        """Writes the ``TrainConfig``, the time, and further details.

        Args:
            config: ``TrainConfig``.
            details: further values that JSON can hold; ``created`` replaces the time.
        """
        now = datetime.datetime.now(datetime.UTC)
        content = {"created": now.isoformat(), "hyperparameters": config.as_dict(), **details}
        self._config_text = json.dumps(content, indent=2)
        self._write_config_text()

    def read_config(self):
        """Returns the ``TrainConfig`` and the other content of config.json as a dict."""
        try:
            self._config_text = read_regular_file(self.config_path).decode()
            return _parse_config(json.loads(self._config_text))
        except OSError as error:
            reason = error.strerror
        # Deep nesting is a RecursionError.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            reason = "it is not, or no longer, what this version of dfpkeras writes"
        raise CommandError(f"{self.config_path}: cannot be read: {reason}")

    def save_checkpoint(self, model, policy, epoch, batch=0, **progress):
        """Saves a checkpoint and removes those that are no longer needed.

        Args:
            model: ``keras.Model``.
            policy: name of the policy it is trained under.
            epoch, batch: complete epochs, and training steps of the next one.
            progress: further values to restore when training is resumed; JSON must be able to hold
                them.

        Raises:
            CommandError: it cannot be written; the checkpoints before it are still there.
        """
        from dfpkeras.training.checkpoints import save_checkpoint

        name = f"epoch-{epoch:04d}-batch-{batch:06d}" if batch else f"epoch-{epoch:04d}"
        path = self._checkpoints(policy) / f"{name}.keras"
        self._restore_if_deleted()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{path}: cannot be written: {error.strerror}") from error
        _write(path, lambda temporary: save_checkpoint(temporary, model, progress))
        self._remove_old_checkpoints(policy)

    def latest_checkpoint(self, policy):
        """Returns the last ``Checkpoint`` whose file is not damaged.

        Damaged ones are reported on standard error and renamed, so that this is done once.
        """
        from dfpkeras.training.checkpoints import find_damage

        for checkpoint in reversed(self._list_checkpoints(policy)):
            damage = find_damage(checkpoint.path)
            if damage is None:
                return checkpoint
            aside = checkpoint.path.rename(checkpoint.path.with_suffix(".damaged"))
            print(
                f"dfpkeras train: warning: {checkpoint.path} is damaged ({damage}); it is now "
                f"{aside.name}, and training continues from the previous checkpoint",
                file=sys.stderr,
            )
        return Checkpoint()

    def history(self):
        """Returns the rows written so far as a pandas.DataFrame, possibly empty.

        Raises:
            CommandError: the file cannot be read, or is not what `add_to_history` writes.
        """
        import pandas as pd

        try:
            return _parse_history(read_regular_file(self.history_path).decode())
        except FileNotFoundError:
            return pd.DataFrame(columns=["policy", "epoch"])
        except OSError as error:
            reason = error.strerror
        except (ValueError, TypeError, csv.Error):
            reason = "it is not, or no longer, what training writes"
        raise CommandError(f"{self.history_path}: cannot be read: {reason}")

    def lost_epochs(self, policy):
        """Returns the numbers of the epochs that checkpoints know of, but the history does not."""
        rows = self.history()
        known = set(rows.loc[rows["policy"] == policy, "epoch"])
        last = max((checkpoint.epoch for checkpoint in self._list_checkpoints(policy)), default=0)
        return [epoch for epoch in range(1, last + 1) if epoch not in known]

    def add_to_history(self, row):
        """Appends a row, replacing existing ones for the same policy and the same or a later
        epoch."""
        import pandas as pd

        self._restore_if_deleted()
        rows = self.history()
        later = (rows["policy"] == row["policy"]) & (rows["epoch"] >= row["epoch"])
        kept = rows[~later]
        new = pd.DataFrame([row])
        rows = pd.concat([kept, new], ignore_index=True) if len(kept) else new
        _write(self.history_path, lambda path: rows.to_csv(path, index=False))

    def save_curves(self, figure):
        """Saves a matplotlib figure."""
        _write(self.curves_path, figure.savefig)

    def _write_config_text(self):
        _write(self.config_path, lambda path: path.write_text(self._config_text, "utf-8"))

    def _restore_if_deleted(self):
        """If the directory of a running run is deleted, what is written later is not lost."""
        if self._config_text is not None and not self.config_path.exists():
            self._prove_writable()
            self._write_config_text()

    def _checkpoints(self, policy):
        return self.path / "checkpoints" / policy

    def _list_checkpoints(self, policy):
        """Returns all checkpoints in the order in which they were made."""
        checkpoints = [
            Checkpoint(path, int(match[1]), int(match[2] or 0))
            for path in self._checkpoints(policy).glob("*.keras")
            if (match := _CHECKPOINT.fullmatch(path.name))
        ]
        return sorted(checkpoints, key=lambda checkpoint: checkpoint[1:])

    def _remove_old_checkpoints(self, policy):
        """Also removes what a killed process left half-written."""
        *old, last = self._list_checkpoints(policy)
        epochs = [checkpoint.epoch for checkpoint in (*old, last) if not checkpoint.batch]
        kept = {*epochs[-_KEPT_EPOCHS:], self._best_epoch(policy)}
        needless = [each.path for each in old if each.batch or each.epoch not in kept]
        for path in (*needless, *self._checkpoints(policy).glob(f"{PARTIAL}*")):
            path.unlink()

    def _best_epoch(self, policy):
        rows = self.history()
        rows = rows[rows["policy"] == policy]
        if not len(rows):
            return None
        return int(rows.loc[rows["val_accuracy"].idxmax(), "epoch"])

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


def _parse_history(text):
    """Raises one of several errors if the text is not that of a history.csv."""
    import pandas as pd
    from pandas.api.types import is_integer_dtype, is_numeric_dtype

    # pandas' default engine has read some numbers as their neighbours.
    rows = pd.read_csv(io.StringIO(text), engine="python")
    numbers = rows.drop(columns="policy", errors="ignore")
    if not (
        text.endswith("\n")
        and {"policy", "epoch"} <= set(rows)
        and is_integer_dtype(rows["epoch"])
        and not rows["policy"].isna().any()
        and all(map(is_numeric_dtype, numbers.dtypes))
    ):
        raise ValueError
    return rows


def _parse_config(content):
    """Raises one of several errors if the content is not that of a config.json."""
    config = TrainConfig.from_dict(content.pop("hyperparameters"))
    datetime.datetime.fromisoformat(content["created"])
    if not isinstance(content["data"], dict):
        raise TypeError
    return config, content

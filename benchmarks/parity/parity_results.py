"""The file that finished runs are appended to: a row for each of their epochs."""

import os

import pandas as pd

KEY = ["name", "policy", "seed", "recipe"]
METRICS = [
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "images_per_second",
    "train_seconds",
]
COLUMNS = [*KEY, "epoch", *METRICS]


def read_results(path):
    """Returns the rows of all finished runs as a `pandas.DataFrame`, possibly empty."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, dtype={"recipe": str, "name": str})


def missing_runs(runs, results):
    """Returns those of the runs that the results do not hold, in order."""
    done = set(results[KEY].itertuples(index=False, name=None))
    return [run for run in runs if run.key not in done]


def append_run(path, run, history):
    """Appends a finished run; the file is replaced as a whole, so that it never holds half a run.

    Args:
        path: path of the file.
        run: `parity_study.Run`.
        history: `pandas.DataFrame`, the run's own `history.csv`.

    Raises:
        ValueError: the history does not end with the run's last epoch.
    """
    rows = history[history["policy"] == run.dtype_policy].sort_values("epoch")
    epochs = run.options["epochs"]
    if rows["epoch"].tolist() != list(range(1, epochs + 1)):
        raise ValueError(f"{run.directory_name}: expected {epochs} epochs, got {len(rows)}")
    rows = rows[["epoch", *METRICS]].round(6)
    for position, (column, value) in enumerate(zip(KEY, run.key, strict=True)):
        rows.insert(position, column, value)
    before = read_results(path)
    after = pd.concat([before, rows], ignore_index=True) if len(before) else rows
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    after.to_csv(temporary, index=False)
    os.replace(temporary, path)


def rows_of(results, runs):
    """Returns the rows that belong to the given runs; others are of another recipe."""
    keys = {run.key for run in runs}
    belongs = [key in keys for key in results[KEY].itertuples(index=False, name=None)]
    return results[pd.Series(belongs, index=results.index, dtype=bool)]


def final_rows(results):
    """Returns the row of each run's last epoch."""
    return results.loc[results.groupby(KEY)["epoch"].idxmax()].reset_index(drop=True)

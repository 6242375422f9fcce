"""The results of a run: one row per policy."""

import math

# Columns of the history, and their headings in the table.
ACCURACIES = {"accuracy": "top-1", "top_5_accuracy": "top-5"}


def summarize(history):
    """Reduces a run's history to a row per policy.

    Args:
        history: pandas.DataFrame as ``RunDirectory.history`` returns it.

    Returns:
        A pandas.DataFrame indexed by policy, in the order of training, with the columns
        ``epochs``, ``accuracy`` and ``top_5_accuracy`` (held out, after the last epoch; the latter
        only where it was measured), ``images_per_second`` (all steps but the first of each run) and
        ``train_seconds`` (all steps).
    """
    groups = history.groupby("policy", sort=False)
    summary = groups[["timed_images", "timed_seconds", "train_seconds"]].sum()
    summary["epochs"] = groups["epoch"].max()
    accuracies = [name for name in ACCURACIES if f"val_{name}" in history]
    for name in accuracies:
        summary[name] = groups[f"val_{name}"].last()
    summary["images_per_second"] = (summary["timed_images"] / summary["timed_seconds"]).fillna(
        math.nan
    )
    return summary[["epochs", *accuracies, "images_per_second", "train_seconds"]]


def print_table(title, summary):
    """Prints a summary as a table with a column per policy, which fits narrow terminals."""
    from rich.table import Table

    from dfpkeras.console import make_console

    table = Table("policy")
    for policy in summary.index:
        table.add_column(policy, justify="right")
    for heading, column, write in (
        ("epochs", "epochs", lambda value: str(int(value))),
        *((f"held-out {short}", name, "{:.2%}".format) for name, short in ACCURACIES.items()),
        ("images/s", "images_per_second", format_speed),
        ("training time", "train_seconds", "{:.1f} s".format),
    ):
        if column in summary:
            table.add_row(heading, *map(write, summary[column]))
    print(title)
    make_console().print(table)


def format_speed(images_per_second):
    """Returns three significant digits at least, or a dash if there was nothing to measure."""
    if math.isnan(images_per_second):
        return "-"
    return f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"

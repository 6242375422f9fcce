"""What came out of a run: one row per policy."""

import math


def summarize(history):
    """Reduces a run's history to a row per policy.

    Args:
        history: pandas.DataFrame as ``RunDirectory.history`` returns it.

    Returns:
        A pandas.DataFrame indexed by policy, in the order of training, with the columns
        ``epochs``, ``accuracy`` (held out, after the last epoch), ``images_per_second`` (all
        steps but the first of each run) and ``train_seconds`` (all steps).
    """
    groups = history.groupby("policy", sort=False)
    summary = groups[["timed_images", "timed_seconds", "train_seconds"]].sum()
    summary["epochs"] = groups["epoch"].max()
    summary["accuracy"] = groups["val_accuracy"].last()
    summary["images_per_second"] = (summary["timed_images"] / summary["timed_seconds"]).fillna(
        math.nan
    )
    return summary[["epochs", "accuracy", "images_per_second", "train_seconds"]]


def print_table(title, summary):
    """Prints a summary as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column("policy")
    for heading in ("epochs", "held-out accuracy", "images/s", "training time"):
        table.add_column(heading, justify="right")
    for policy, row in summary.iterrows():
        table.add_row(
            policy,
            str(int(row["epochs"])),
            f"{row['accuracy']:.2%}",
            format_speed(row["images_per_second"]),
            f"{row['train_seconds']:.1f} s",
        )
    Console().print(table)


def format_speed(images_per_second):
    """Returns three significant digits at least, or a dash if there was nothing to measure."""
    if math.isnan(images_per_second):
        return "-"
    return f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"

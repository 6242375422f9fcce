"""Plots of the study."""

import matplotlib
import pandas as pd
from parity_study import BITS, DEFAULT_BITS, POLICIES, UNIFORM_BITS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = dict(zip(POLICIES, ("0.2", "C1", "C0"), strict=True))
# Shift in bits between error bars that would otherwise overlap.
BESIDE = 0.15


def plot_curves(results, path):
    """Draws mean and range over the seeds, for each network and policy.

    Args:
        results: `pandas.DataFrame` of finished runs.
        path: path of the PNG.
    """
    names = list(dict.fromkeys(results["name"]))
    figure, axes = plt.subplots(
        2, len(names), figsize=(3.6 * len(names), 6), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        rows = results[results["name"] == name]
        _draw_policies(axes[0, column], rows, "val_accuracy", 100)
        _draw_policies(axes[1, column], rows, "loss", 1)
        axes[0, column].set(title=name, ylabel="test accuracy, %")
        axes[1, column].set(xlabel="epoch", ylabel="training loss")
    axes[0, 0].legend()
    _save(figure, path)


def _draw_policies(axes, rows, metric, factor):
    for policy in POLICIES:
        curves = factor * rows[rows["policy"] == policy].groupby("epoch")[metric].agg(
            ["mean", "min", "max"]
        )
        colour = COLOURS[policy]
        axes.plot(curves.index, curves["mean"], color=colour, marker=".", label=f"{policy}: mean")
        axes.fill_between(
            curves.index,
            curves["min"],
            curves["max"],
            color=colour,
            alpha=0.25,
            linewidth=0,
            label=f"{policy}: range",
        )
    axes.xaxis.get_major_locator().set_params(integer=True)


def plot_ablation(table, path):
    """Draws the difference from float32 in test accuracy against the bits of each role, the bits
    with both roundings, and the flush interval.

    Args:
        table: what `parity_report.ablation_table` returned.
        path: path of the PNG.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), sharey=True, layout="constrained")
    for panel, kinds, label, title in (
        (axes[0], tuple(DEFAULT_BITS), "magnitude bits of the role", "One role at a time"),
        (axes[1], ("nearest", "stochastic"), "magnitude bits of all roles", "Rounding"),
        (axes[2], ("flush",), "products in one INT32 sum", "Flush interval"),
    ):
        panel.axhline(0, color="0.4", label="float32")
        for place, kind in enumerate(kinds):
            _draw_kind(panel, table, kind, BESIDE * (place - (len(kinds) - 1) / 2))
        panel.set(xlabel=label, title=title)
        panel.legend()
    axes[0].set_xticks(BITS)
    axes[1].set_xticks(UNIFORM_BITS)
    axes[2].set_xscale("log", base=2)
    axes[0].set_ylabel("accuracy - float32's of the seed, points: mean and range")
    _save(figure, path)


def _draw_kind(axes, table, kind, shift):
    rows = table[table["format"].str.startswith(f"{kind} ")]
    rows = rows.assign(value=rows["format"].str.split().str[1].astype(int))
    if kind in DEFAULT_BITS:
        default = table[table["format"] == "default"].assign(value=DEFAULT_BITS[kind])
        rows = pd.concat([rows, default]).sort_values("value")
    mean = rows["difference"]
    errors = [mean - rows["lowest"], rows["highest"] - mean]
    axes.errorbar(rows["value"] + shift, mean, yerr=errors, marker="o", capsize=3, label=kind)


def plot_noise(noise, path):
    """Draws the signal-to-noise ratio of each layer's operands, a panel for each network.

    Args:
        noise: `pandas.DataFrame` with the columns "network", "layer", "role" and "decibels".
        path: path of the PNG.
    """
    names = list(dict.fromkeys(noise["network"]))
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(3.6 * len(names), 4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, name in zip(axes[0], names, strict=True):
        for role, rows in noise[noise["network"] == name].groupby("role", sort=False):
            panel.plot(range(1, len(rows) + 1), rows["decibels"], marker=".", label=role)
        panel.set(title=name, xlabel="layer")
    axes[0, 0].set_ylabel("signal-to-noise ratio, dB")
    axes[0, 0].legend()
    _save(figure, path)


def _save(figure, path):
    figure.savefig(path, dpi=120)
    plt.close(figure)

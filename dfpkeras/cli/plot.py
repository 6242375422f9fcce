"""The plot of a run."""

from dfpkeras.cli.summary import ACCURACIES, format_speed, summarize

# Colours from Okabe and Ito's palette, which the colour-blind can tell apart.
_COLOURS = ("#0072B2", "#D55E00")


def plot_history(history, title):
    """Plots loss, accuracies and speed of a run, with a colour for each policy.

    Args:
        history: pandas.DataFrame as ``RunDirectory.history`` returns it.
        title: heading of the plot.

    Returns:
        A matplotlib.figure.Figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = {"loss": ("loss", "cross-entropy", 1)} | {
        name: (f"{short} accuracy", "accuracy (%)", 100)
        for name, short in ACCURACIES.items()
        if name in history
    }
    figure = Figure(figsize=(3 + 5 * len(curves), 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    # A directory's name is not a formula.
    figure.suptitle(title, parse_math=False)
    *panels, speed = figure.subplots(1, len(curves) + 1, width_ratios=[3] * len(curves) + [1.4])
    colours = dict(zip(history["policy"].unique(), _COLOURS, strict=False))
    for axes, (metric, (heading, unit, scale)) in zip(panels, curves.items(), strict=True):
        for policy, colour in colours.items():
            rows = history[history["policy"] == policy]
            _plot_metric(axes, rows, metric, policy, colour, scale)
        axes.set(xlabel="epoch", ylabel=unit, title=heading)
        _number_epochs(axes, history["epoch"])
        axes.grid(alpha=0.3)
        axes.legend()
    _plot_speed(speed, summarize(history), colours)
    return figure


def _number_epochs(axes, epochs):
    """A run of one epoch gets the same axis as one of several epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _plot_metric(axes, rows, metric, policy, colour, scale):
    options = {"color": colour, "marker": "o", "markersize": 4}
    axes.plot(rows["epoch"], scale * rows[f"val_{metric}"], label=f"{policy}, held out", **options)
    axes.plot(
        rows["epoch"],
        scale * rows[metric],
        label=f"{policy}, training",
        linestyle="--",
        alpha=0.6,
        **options,
    )


def _plot_speed(axes, summary, colours):
    speeds = summary["images_per_second"]
    bars = axes.bar(list(summary.index), speeds, color=[colours[name] for name in summary.index])
    axes.bar_label(bars, [format_speed(speed) for speed in speeds])
    axes.set(ylabel="images/s", title="training speed")
    axes.margins(y=0.12)

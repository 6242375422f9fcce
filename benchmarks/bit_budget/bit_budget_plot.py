"""The results as a plot."""

from bit_budget_choice import SHORTEST_MEAN_RUN, at_end
from bit_budget_schedule import OPERANDS

# Colours from Okabe and Ito's palette, which the colour-blind can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00")
_MARKERS = ("o", "s", "^")
_LINES = ("-", "--", ":")
_ROLES = {"x": "activations", "w": "weights", "dy": "gradients"}


def plot(data):
    """Draws run length and noise against bits and, if measured, kernel time against run length.

    Args:
        data: see `bit_budget_report.markdown`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [_plot_runs, _plot_operands, *([_plot_speed] if "speed" in data else [])]
    figure = Figure(figsize=(5.2 * len(panels), 5.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for draw, axes in zip(panels, figure.subplots(1, len(panels)), strict=True):
        draw(axes, data)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _plot_runs(axes, data):
    runs = at_end(data["runs"])
    runs = runs.assign(bits=runs["broadcast_bits"] + runs["packed_bits"])
    for direction, colour in zip(OPERANDS, _COLOURS, strict=True):
        for network, line in zip(dict.fromkeys(runs["network"]), _LINES, strict=False):
            chosen = runs[(runs["direction"] == direction) & (runs["network"] == network)]
            mean = chosen.groupby("bits")["mean_run"].mean()
            axes.plot(mean, line, color=colour, label=f"{direction}, {network}")
    axes.axhline(SHORTEST_MEAN_RUN, color="black", linewidth=1)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set(
        title="proven run, end of training",
        xlabel="magnitude bits of both operands, summed",
        ylabel="products until INT32 is flushed, mean",
    )


def _plot_operands(axes, data):
    operands = at_end(data["operands"])
    fixed = operands[operands["format"] != "bfloat16"]
    for (role, name), colour in zip(_ROLES.items(), _COLOURS, strict=True):
        for network, line in zip(dict.fromkeys(fixed["network"]), _LINES, strict=False):
            chosen = fixed[(fixed["role"] == role) & (fixed["network"] == network)]
            bits = chosen["format"].astype(int)
            axes.plot(bits, chosen["median"], line, color=colour, label=f"{name}, {network}")
    yardstick = operands[operands["format"] == "bfloat16"]["median"].median()
    axes.axhline(yardstick, color="black", linewidth=1, label="bfloat16")
    axes.set_xticks(sorted(set(fixed["format"].astype(int))))
    axes.set(
        title="noise of quantising, end of training",
        xlabel="magnitude bits of the operand",
        ylabel="signal to noise, median of layers (dB)",
    )


def _plot_speed(axes, data):
    speed = data["speed"]
    never = speed[speed["bits"] == 0].set_index(["layer", "direction"])["milliseconds"]
    for direction, colour in zip(OPERANDS, _COLOURS, strict=True):
        for layer, marker in zip(dict.fromkeys(speed["layer"]), _MARKERS, strict=False):
            chosen = speed[(speed["direction"] == direction) & (speed["layer"] == layer)]
            time = chosen["milliseconds"] / never[layer, direction]
            label = f"{direction}, {layer.removesuffix('_conv')}"
            axes.plot(chosen["mean_run"], time, marker, color=colour, label=label)
    axes.axvline(SHORTEST_MEAN_RUN, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set(
        title="kernel time, ResNet-50, batch 16",
        xlabel="products until INT32 is flushed, mean",
        ylabel="time / time without flushes",
    )

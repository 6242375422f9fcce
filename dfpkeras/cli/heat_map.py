"""A heat map of what a monitor recorded: layers and steps."""

import numpy as np

from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.monitor.rows import OF_TENSOR, ROLES

#: Headings, and how the colours are spread: from what to what, or in powers of ten.
_SCALES = {
    "useful_bits": ("useful bits", 0, 15),
    "exponent": ("shared exponent", None, None),
    "largest": ("largest magnitude", "log", None),
    "zeros": ("share of zeros", 0, 1),
    "saturated": ("share of saturated integers", 0, None),
    "sqnr_db": ("signal-to-quantisation-noise ratio (dB)", 0, None),
    "run_length": ("products in a run", "log", None),
    "flushes": ("additions in FP32 for a number of the result", "log", None),
}
_INCHES_OF_LAYER, _LABEL_SIZE = 0.14, 7
_MISSING = "#e6e6e6"
_MOST_STEP_LABELS = 8


def plot_heat_map(rows, statistic, title):
    """Plots a statistic of every layer in every recorded step, a panel for each role or direction.

    Args:
        rows: list of `dfpkeras.monitor.rows.Row`, not empty.
        statistic: a key of `_SCALES`.
        title: heading of the plot.

    Returns:
        A matplotlib.figure.Figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    is_of_tensor = statistic in OF_TENSOR
    rows = [row for row in rows if bool(row.role) == is_of_tensor]
    layers = [*dict.fromkeys(row.layer for row in rows)]
    steps = sorted({row.step for row in rows})
    panels = {
        of: _grid(rows, statistic, of, layers, steps)
        for of in (ROLES if is_of_tensor else DIRECTIONS)
    }
    height = 1.6 + _INCHES_OF_LAYER * max(len(layers), 8)
    figure = Figure(figsize=(11, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    # A directory's name is not a formula.
    figure.suptitle(f"{title}, {_SCALES[statistic][0]}", parse_math=False)
    all_axes = figure.subplots(1, len(panels), sharey=True)
    norm = _norm(statistic, list(panels.values()))
    for axes, (of, grid) in zip(all_axes, panels.items(), strict=True):
        image = _draw(axes, grid, norm)
        axes.set_title(of.replace("_", "-"), fontsize=9)
        _label_steps(axes, steps)
    _label_layers(all_axes[0], layers)
    figure.supxlabel("step (grey: the layer has none)", fontsize=9)
    # Of a fixed height, however many layers there are.
    bar = figure.colorbar(image, ax=all_axes, shrink=min(1, 4 / height), anchor=(0, 1), pad=0.01)
    bar.ax.tick_params(labelsize=_LABEL_SIZE)
    return figure


def _grid(rows, statistic, of, layers, steps):
    """An array of layers and steps, NaN where nothing was recorded."""
    grid = np.full((len(layers), len(steps)), np.nan)
    places = [{name: place for place, name in enumerate(names)} for names in (layers, steps)]
    for row in rows:
        value = getattr(row, statistic)
        if of in (row.role, row.direction) and value is not None:
            grid[places[0][row.layer], places[1][row.step]] = value
    return grid


def _norm(statistic, grids):
    """One scale of colours for all panels."""
    from matplotlib.colors import LogNorm, Normalize

    _, least, most = _SCALES[statistic]
    numbers = np.concatenate([grid.ravel() for grid in grids])
    numbers = numbers[np.isfinite(numbers)]
    if least == "log":
        numbers = numbers[numbers > 0]
        if not len(numbers):
            return Normalize(0, 1)
        return LogNorm(numbers.min(), max(numbers.max(), 10 * numbers.min()))
    least = numbers.min(initial=np.inf) if least is None else least
    most = numbers.max(initial=least) if most is None else most
    return Normalize(least, most if most > least else least + 1)


def _draw(axes, grid, norm):
    from matplotlib import colormaps

    colours = colormaps["viridis"].with_extremes(bad=_MISSING)
    return axes.imshow(grid, aspect="auto", interpolation="none", cmap=colours, norm=norm)


def _label_steps(axes, steps):
    shown = range(0, len(steps), -(-len(steps) // _MOST_STEP_LABELS))
    axes.set_xticks(shown, [f"{steps[place]:,}" for place in shown])
    axes.tick_params(axis="x", labelsize=_LABEL_SIZE, labelrotation=45)


def _label_layers(axes, layers):
    """Without the name of the model, if all layers have the same."""
    if len({layer.split("/")[0] for layer in layers}) == 1:
        layers = [layer.partition("/")[2] or layer for layer in layers]
    axes.set_yticks(range(len(layers)), layers)
    axes.tick_params(axis="y", labelsize=_LABEL_SIZE)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)

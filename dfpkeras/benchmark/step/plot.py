"""Results as stacked bars."""

import itertools

from dfpkeras.benchmark.step.layer_kinds import BETWEEN, all_kinds

# Colours that the colour-blind can tell apart: Okabe and Ito's palette, then greys.
_PALETTE = (
    "#0072B2",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#F0E442",
    "#000000",
    "#999999",
)
_COLOUR_BETWEEN = "#DDDDDD"
_WHOLE = "not divided"

# Bars longer than this many times the shortest leave the panel.
_MOST_TIMES_SLOWER = 5

_INCHES_PER_BAR = 0.4
_INCHES_AROUND = 1.0
_WIDTH = 10


def plot_step_results(results):
    """Plots the time of a step, divided by kinds of layers as under the profiler.

    Args:
        results: `StepResults`.

    Returns:
        A `matplotlib.figure.Figure`: a panel for each case, a bar for each contender.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [_INCHES_AROUND + _INCHES_PER_BAR * len(c.measured) for c in results.comparisons]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    machine = results.machine
    figure.suptitle(f"{machine['cpu']}, {machine['isa']}, {machine['num_threads']} threads")
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)
    for comparison, (axes,) in zip(results.comparisons, panels, strict=True):
        _plot_panel(axes, comparison)
    handles = {}
    for (axes,) in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=6)
    return figure


def _plot_panel(axes, comparison):
    names = list(comparison.measured)
    limit = _longest_shown([measured.median for measured in comparison.measured.values()])
    for row, name in enumerate(names):
        _plot_bar(axes, row, comparison.measured[name], 1e3 * limit)
    axes.set_yticks(range(len(names)), names)
    axes.set(title=comparison.case.label, xlabel="ms per step", ylim=(len(names) - 0.4, -0.6))
    axes.set_xlim(0, 1.12e3 * limit)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _longest_shown(medians):
    """A contender that is many times slower than the rest must not squeeze their bars."""
    fastest = min(medians)
    return max(median for median in medians if median <= _MOST_TIMES_SLOWER * fastest)


def _colours():
    """The colour of each kind; where there are many kinds, some share one."""
    return dict(zip(all_kinds(), itertools.cycle(_PALETTE))) | {BETWEEN: _COLOUR_BETWEEN}


def _plot_bar(axes, row, measured, limit):
    """A bar as long as the median; the profiler, which slows a step down, gives the shares."""
    profile = measured.profile or {_WHOLE: 1}
    scale, left = 1e3 * measured.median / sum(profile.values()), 0
    colours = _colours()
    for kind, seconds in profile.items():
        width = scale * seconds
        colour = colours.get(kind, "white")
        axes.barh(row, width, 0.7, left, color=colour, edgecolor="grey", linewidth=0.3, label=kind)
        left += width
    axes.text(min(left, limit), row, f" {left:.0f} ms", va="center")

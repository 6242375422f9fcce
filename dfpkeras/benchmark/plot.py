"""Results as a bar chart."""

# Colours from Okabe and Ito's palette, which the colour-blind can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00")

_INCHES_PER_LAYER = 0.42
_INCHES_AROUND = 1.1
_INCHES_PER_DIRECTION = 4.6
_INCHES_FOR_LABELS = 2.2


def plot_results(results):
    """Plots the speed of every contender, a group of bars for each layer.

    Args:
        results: `Results`.

    Returns:
        A `matplotlib.figure.Figure`: a row for each network, a column for each direction.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    directions = list(dict.fromkeys(m.direction for m in results.measurements))
    heights = [
        _INCHES_AROUND + _INCHES_PER_LAYER * len(layers) for layers in results.networks.values()
    ]
    width = _INCHES_FOR_LABELS + _INCHES_PER_DIRECTION * len(directions)
    figure = Figure(figsize=(width, sum(heights) + 0.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    machine = results.machine
    figure.suptitle(
        f"{machine['cpu']}, {machine['isa']}, {machine['num_threads']} threads, "
        f"batch {results.batch_size}"
    )
    panels = figure.subplots(
        len(heights),
        len(directions),
        squeeze=False,
        sharex="row",
        sharey="row",
        height_ratios=heights,
    )
    for network, row in zip(results.networks, panels, strict=True):
        for direction, axes in zip(directions, row, strict=True):
            _plot_panel(axes, results, network, direction)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _plot_panel(axes, results, network, direction):
    measurements = results.of_network(network, direction)
    contenders = results.contenders
    height = 0.8 / len(contenders)
    for i, (name, colour) in enumerate(zip(contenders, _COLOURS, strict=False)):
        centres = [row - 0.4 + (i + 0.5) * height for row in range(len(measurements))]
        speeds = [m.gmacs_per_second(name) or 0 for m in measurements]
        axes.barh(centres, speeds, height, color=colour, label=name)
    peak = results.peak.micro_kernel
    axes.axvline(peak, color="black", linestyle=":", linewidth=1, label="micro-kernel")
    axes.set_yticks(range(len(measurements)), [m.layer.label for m in measurements])
    axes.set(title=f"{network}, {direction}", xlabel="GMAC/s")
    axes.set_ylim(len(measurements) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)

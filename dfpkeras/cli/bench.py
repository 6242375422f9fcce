"""``dfpkeras bench``."""

import json
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from dfpkeras.benchmark.networks import NETWORKS
from dfpkeras.benchmark.plot import plot_results
from dfpkeras.benchmark.suite import run_suite
from dfpkeras.benchmark.tables import print_results
from dfpkeras.cli.bench_files import check_files
from dfpkeras.cli.errors import CommandError
from dfpkeras.console import make_console, make_progress
from dfpkeras.kernels.convolution_plan import DIRECTIONS

ALL = "all"


def run_bench(network_names, direction, batch_size, seconds, json_path=None, plot_path=None):
    """Compares the kernels with FP32 libraries on the layers of a network, and prints tables.

    Args:
        network_names: list of keys of `NETWORKS`, or of "all".
        direction: one of `DIRECTIONS`, or "all".
        batch_size: images.
        seconds: time to spend on each layer and direction, warm-up excluded.
        json_path: file for everything that was measured, or None.
        plot_path: PNG file for a bar chart, or None.

    Raises:
        CommandError: there is no such network, a file cannot be written, or matplotlib is missing.
    """
    check_files(json_path, plot_path)
    networks = {name: NETWORKS[name] for name in _expand(network_names)}
    directions = DIRECTIONS if direction == ALL else (direction,)
    console = make_console()
    results = run_suite(networks, directions, batch_size, seconds, _show_progress)
    print_results(console, results)
    if json_path:
        Path(json_path).write_text(json.dumps(results.as_dict(), indent=2) + "\n")
    if plot_path:
        plot_results(results).savefig(plot_path)


def _expand(names):
    """The names of networks, "all" replaced."""
    for name in names:
        if name not in (*NETWORKS, ALL):
            raise CommandError(
                f"--network: {name}: expected one of {', '.join((*NETWORKS, ALL))}, or --step for "
                "the whole step of any model in keras.applications"
            )
    return NETWORKS if ALL in names else names


def _show_progress(tasks):
    """Passes the tasks on and draws a progress bar on standard error."""
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "description"
    with make_progress(*columns, transient=True) as progress:
        bar = progress.add_task("", total=len(tasks))
        for layer, direction in tasks:
            progress.update(bar, description=f"{layer.label}, {direction}")
            yield layer, direction
            progress.advance(bar)

"""``dfpkeras bench``."""

import importlib.util
import json
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dfpkeras.benchmark.layers import DIRECTIONS
from dfpkeras.benchmark.networks import NETWORKS
from dfpkeras.benchmark.plot import plot_results
from dfpkeras.benchmark.suite import run_suite
from dfpkeras.benchmark.tables import print_results
from dfpkeras.cli.errors import CommandError

ALL = "all"


def run_bench(network, direction, batch_size, seconds, json_path=None, plot_path=None):
    """Compares the kernels with FP32 libraries on the layers of a network, and prints tables.

    Args:
        network: key of `NETWORKS`, or "all".
        direction: one of `DIRECTIONS`, or "all".
        batch_size: images.
        seconds: time to spend on each layer and direction, warm-up excluded.
        json_path: file for everything that was measured, or None.
        plot_path: PNG file for a bar chart, or None.

    Raises:
        CommandError: a file cannot be written, or matplotlib is missing.
    """
    _check_files(json_path, plot_path)
    networks = NETWORKS if network == ALL else {network: NETWORKS[network]}
    directions = DIRECTIONS if direction == ALL else (direction,)
    console = Console()
    results = run_suite(networks, directions, batch_size, seconds, _show_progress)
    print_results(console, results)
    if json_path:
        Path(json_path).write_text(json.dumps(results.as_dict(), indent=2) + "\n")
    if plot_path:
        plot_results(results).savefig(plot_path)


def _check_files(json_path, plot_path):
    for option, path in (("--json", json_path), ("--plot", plot_path)):
        if path and not (Path(path).is_file() or Path(path).absolute().parent.is_dir()):
            raise CommandError(f"{option}: {path}: there is no such directory")
        if path and (Path(path).is_dir() or not _is_writable(Path(path))):
            raise CommandError(f"{option}: {path}: cannot be written")
    if plot_path and Path(plot_path).suffix.lower() != ".png":
        raise CommandError(f"--plot: {plot_path}: the name of a PNG file must end in .png")
    if plot_path and importlib.util.find_spec("matplotlib") is None:
        raise CommandError(
            "--plot: matplotlib: not installed; needed is the extra bench: pip install "
            '"dfpkeras[bench]"'
        )


def _is_writable(path):
    return os.access(path if path.exists() else path.absolute().parent, os.W_OK)


def _show_progress(tasks):
    """Passes the tasks on and draws a progress bar on standard error."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(tasks))
        for layer, direction in tasks:
            progress.update(bar, description=f"{layer.label}, {direction}")
            yield layer, direction
            progress.advance(bar)

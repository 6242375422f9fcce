"""``dfpkeras monitor``: what a run's monitor recorded, as a table and a heat map."""

from pathlib import Path

from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.heat_map import plot_heat_map
from dfpkeras.cli.requirements import require_packages
from dfpkeras.files import write_atomically
from dfpkeras.monitor.records import NAME, Records
from dfpkeras.monitor.rows import OF_PRODUCT, OF_TENSOR
from dfpkeras.monitor.summary import Summary

#: What a heat map can show; the first is the default.
STATISTICS = ("useful_bits", *(name for name in (*OF_TENSOR, *OF_PRODUCT) if name != "useful_bits"))
PLOT_NAME = "monitor.png"


def add_monitor(commands):
    """Adds the command to argparse's subparsers."""
    monitor = commands.add_parser(
        "monitor",
        help="how well integers represented the tensors of a run, layer by layer",
        description="Prints what a run trained with --monitor recorded, and draws a heat map of "
        "layers and steps.",
    )
    monitor.add_argument(
        "name",
        metavar="RUN",
        help="name of a run, or a directory that dfpkeras.callbacks.DFPMonitor wrote to",
    )
    monitor.add_argument(
        "--statistic",
        choices=STATISTICS,
        default=STATISTICS[0],
        help=f"what the colours show (default: {STATISTICS[0]})",
    )
    monitor.add_argument(
        "--plot",
        metavar="FILE.png",
        default=None,
        help=f"file of the heat map (default: {PLOT_NAME} in the run's directory)",
    )
    monitor.add_argument("--runs-dir", default="runs", help="where runs are kept (default: runs)")
    monitor.set_defaults(run=_run)


def _run(arguments):
    run_monitor(arguments.name, arguments.runs_dir, arguments.statistic, arguments.plot)


def run_monitor(run, runs_dir="runs", statistic=STATISTICS[0], plot_path=None):
    """Prints the table of a run's monitor and saves its heat map.

    Args:
        run: name of a run, or path of a directory.
        runs_dir: directory of all runs.
        statistic: one of `STATISTICS`.
        plot_path: path of the heat map, or None for the run's own.

    Raises:
        CommandError, MonitorError: an error that the user can correct.
    """
    require_packages("rich", "matplotlib")
    directory = _directory(run, runs_dir)
    show(directory, statistic, Path(plot_path) if plot_path else directory / PLOT_NAME)


def show(directory, statistic, plot_path):
    """Prints the table of the monitor.csv in a directory, and saves its heat map."""
    rows = Records(directory / NAME).read()
    if not rows:
        raise CommandError(f"{directory / NAME}: no layer computed on integers in a recorded step")
    summary = Summary()
    summary.add(rows)
    print(summary)
    figure = plot_heat_map(rows, statistic, f"{directory.name}: {rows[0].layer.split('/')[0]}")
    write_atomically(plot_path, lambda path: figure.savefig(path, format="png"), CommandError)
    print(f"Heat map: {plot_path}")


def _directory(run, runs_dir):
    for directory in (Path(runs_dir) / run, Path(run)):
        if (directory / NAME).exists():
            return directory
    raise CommandError(
        f"{Path(runs_dir) / run / NAME}: there is no such file; train with --monitor, or with "
        "dfpkeras.callbacks.DFPMonitor"
    )

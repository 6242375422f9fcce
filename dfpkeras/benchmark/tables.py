"""Results as tables on the terminal."""

from rich import box
from rich.table import Table

from dfpkeras.benchmark.measure import OURS
from dfpkeras.console import as_text


def print_results(console, results):
    """Prints everything that was measured.

    Args:
        console: `rich.console.Console`.
        results: `Results`.
    """
    machine, peak = results.machine, results.peak
    console.print(
        f"{machine['cpu']}, {machine['isa']}, {machine['num_threads']} threads, "
        f"batch {results.batch_size}",
        "medians of interleaved calls, in 10^9 multiply-adds per second",
        "ratio: time of the better FP32 library / time of dfpkeras",
        f"peak: {peak.micro_kernel:.0f}, the micro-kernel with its operands in the cache, "
        f"{100 * peak.micro_kernel / peak.bare:.0f} % of its instructions on registers",
        str(results.quietness),
        sep="\n",
        highlight=False,
    )
    directions = dict.fromkeys(m.direction for m in results.measurements)
    for network in results.networks:
        for direction in directions:
            console.print(_layers_table(results, network, direction))
    console.print(_totals_table(results))
    console.print(_quantization_table(results))
    for name, reason in results.missing.items():
        console.print(f"{name} was left out: {reason}.", highlight=False)
    for line in _left_out(results):
        console.print(line, highlight=False)


def _layers_table(results, network, direction):
    table = make_table(f"{network}, {direction}", ["layer"])
    add_numbers(table, "count", *results.contenders, "ratio", "% peak")
    for m in results.of_network(network, direction):
        table.add_row(
            m.layer.label,
            str(results.networks[network][m.layer]),
            *(number(m.gmacs_per_second(name), 1) for name in results.contenders),
            ratio(m.ratio),
            number(100 * m.gmacs_per_second(OURS) / results.peak.micro_kernel),
        )
    return table


def _totals_table(results):
    table = make_table("sum of time x count, in ms", ["network", "layers", "direction"])
    add_numbers(table, "dfpkeras", "FP32", "ratio", "geo. mean")
    for total in results.totals:
        table.add_row(
            total.network,
            total.kind,
            total.direction,
            _milliseconds(total.seconds),
            _milliseconds(total.peer_seconds),
            ratio(total.ratio),
            ratio(total.geometric_mean),
        )
    return table


def _quantization_table(results):
    speeds = results.quantization
    size = speeds["bytes"] / 2**20
    table = make_table(f"quantising {size:.4g} MiB of FP32", ["reads + writes, bytes per element"])
    add_numbers(table, "GB/s", "% copy")
    for key, text in (
        ("copy", "4 + 4  numpy.copyto, as many threads"),
        ("quantize", "8 + 2  quantise, into allocated memory"),
        ("quantize_new", "8 + 2  dfpkeras.quantize, into new memory"),
    ):
        table.add_row(text, number(speeds[key], 1), number(100 * speeds[key] / speeds["copy"]))
    return table


def make_table(title, columns):
    """A table without rows; `columns` are headings of text."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in columns:
        table.add_column(heading, no_wrap=True)
    return table


def add_numbers(table, *headings):
    """Adds columns of numbers to a table."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def _left_out(results):
    """One line per contender and reason."""
    found = {}
    for m in results.measurements:
        for name, reason in m.left_out.items():
            found.setdefault((name, reason), []).append(f"{m.layer.label} {m.direction}")
    return [f"{name} left out {', '.join(what)}: {why}" for (name, why), what in found.items()]


def number(value, digits=0):
    """A number as text, "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def _milliseconds(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"


def ratio(value):
    """A ratio as text, red if below 1, "-" for None."""
    if value is None:
        return "-"
    return as_text(f"{value:.2f}", "red" if value < 1 else "")

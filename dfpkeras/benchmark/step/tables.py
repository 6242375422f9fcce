"""Results as tables on the terminal."""

from dfpkeras.benchmark.step.contenders import OURS
from dfpkeras.benchmark.tables import add_numbers, make_table, number, ratio


def print_step_results(console, results):
    """Prints everything that was measured.

    Args:
        console: `rich.console.Console`.
        results: `StepResults`.
    """
    machine = results.machine
    console.print(
        f"{machine['cpu']}, {machine['isa']}, {machine['num_threads']} threads",
        "medians of steps that the contenders took in turns, each in its own process",
        "ratio: time of the contender / time of dfp16; memory: peak resident",
        sep="\n",
        highlight=False,
    )
    for comparison in results.comparisons:
        console.print(_speed_table(comparison))
        if any(m.profile for m in comparison.measured.values()):
            console.print(_profile_table(comparison))
        for line in remarks(comparison):
            console.print(line, highlight=False)


def _speed_table(comparison):
    table = make_table(comparison.case.label, ["contender"])
    add_numbers(table, "images/s", "ms/step", "ratio", "MiB", "dfp16 / its memory")
    for name, measured in comparison.measured.items():
        memory = measured.peak_memory
        table.add_row(
            name,
            number(comparison.case.images / measured.median, 2),
            number(1e3 * measured.median, 1),
            ratio(comparison.ratio(name)),
            number(None if memory is None else memory / 2**20),
            number(comparison.memory_ratio(name), 2),
        )
    return table


def _profile_table(comparison):
    profiles = {name: m.profile for name, m in comparison.measured.items() if m.profile}
    table = make_table("a step under the profiler, in ms", ["layers"])
    for name in profiles:
        add_numbers(table, name, "%")
    totals = {name: sum(profile.values()) for name, profile in profiles.items()}
    for kind in next(iter(profiles.values())):
        cells = []
        for name, profile in profiles.items():
            cells += [number(1e3 * profile[kind], 1), number(100 * profile[kind] / totals[name])]
        table.add_row(kind, *cells)
    return table


def remarks(comparison):
    """Yields sentences about a `Comparison`: the machine, the best rival, what was left out."""
    yield str(comparison.quietness)
    if comparison.best_rival and OURS in comparison.measured:
        rival = comparison.measured[comparison.best_rival].median
        speeds = [
            f"{name} {rival / measured.median:.2f} times as fast"
            for name, measured in comparison.measured.items()
            if name.startswith(OURS)
        ]
        yield f"best rival: {comparison.best_rival}; {', '.join(speeds)}"
    for name, reason in comparison.left_out.items():
        yield f"{name} was left out, {reason}."
    for name, measured in comparison.measured.items():
        if measured.remark:
            yield f"{name} ran on {measured.implementation}: {measured.remark}."
        if name == OURS:
            counts = measured.conversions
            parts = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            total = sum(counts.values())
            yield f"conversions between float32 and INT16 in a step: {total} ({parts})"

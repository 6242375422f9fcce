"""``dfpkeras bench --step``."""

import contextlib
import json
from pathlib import Path

from dfpkeras.benchmark.step.case import NETWORKS, Case, ModelError, is_network
from dfpkeras.benchmark.step.contenders import CONTENDERS
from dfpkeras.benchmark.step.plot import plot_step_results
from dfpkeras.benchmark.step.suite import run_step_suite
from dfpkeras.benchmark.step.tables import print_step_results
from dfpkeras.cli.bench_files import check_files
from dfpkeras.cli.errors import CommandError
from dfpkeras.console import as_text, make_console

ALL = "all"
TRAIN_BATCH_SIZES = (16,)
PREDICT_BATCH_SIZES = (1, 32)


def run_bench_step(
    networks,
    model,
    batch_sizes,
    image_size,
    inference,
    contenders,
    steps,
    time_limit,
    json_path=None,
    plot_path=None,
):
    """Compares whole training steps or predictions of models, and prints tables.

    Args:
        networks: names for `dfpkeras.models.build_model`, or "all" for `NETWORKS`.
        model: "module:function" of a user's model that is compared instead of networks, or None.
        batch_sizes: images, a comparison for each number; None for the default.
        image_size: side of the images, None for each network's own.
        inference: whether to measure ``predict`` instead of ``train_on_batch``.
        contenders: names in `CONTENDERS`.
        steps: timed turns of each contender.
        time_limit: seconds that a contender may take to build a model, or for a turn.
        json_path: file for everything that was measured, or None.
        plot_path: PNG file for a bar chart, or None.

    Raises:
        CommandError: there is no such model, a file cannot be written, matplotlib is missing, or no
            contender could run.
    """
    check_files(json_path, plot_path)
    models = [(None, model)] if model else [(name, None) for name in _expand(networks)]
    default = PREDICT_BATCH_SIZES if inference else TRAIN_BATCH_SIZES
    cases = [
        Case(network, path, batch_size, image_size, inference)
        for network, path in models
        for batch_size in batch_sizes or default
    ]
    chosen = [contender for name, contender in CONTENDERS.items() if name in contenders]
    with _progress() as report:
        results = _run(cases, chosen, steps, time_limit, report)
    print_step_results(make_console(), results)
    if json_path:
        Path(json_path).write_text(json.dumps(results.as_dict(), indent=2) + "\n")
    _check_any_ran(results)
    if plot_path:
        plot_step_results(results).savefig(plot_path)


def _expand(names):
    for name in names:
        if name != ALL and not is_network(name):
            raise CommandError(
                f"--network: {name}: expected resnet-small, the name of a model in "
                f"keras.applications, or {ALL}"
            )
    return NETWORKS if ALL in names else names


def _run(*arguments):
    try:
        return run_step_suite(*arguments)
    except ModelError as error:
        raise CommandError(str(error)) from error


@contextlib.contextmanager
def _progress():
    """Yields a function that shows a str on standard error until the next one."""
    with make_console(stderr=True).status(as_text("")) as status:
        yield lambda text: status.update(as_text(text))


def _check_any_ran(results):
    for comparison in results.comparisons:
        if not comparison.measured:
            reasons = "; ".join(f"{name}, {why}" for name, why in comparison.left_out.items())
            raise CommandError(f"{comparison.case.label}: no contender could run: {reasons}")

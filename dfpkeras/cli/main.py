"""Entry point and arguments of the command ``dfpkeras``."""

import argparse
import sys
import traceback

from dfpkeras import __version__
from dfpkeras.benchmark.networks import NETWORKS as LAYER_NETWORKS
from dfpkeras.benchmark.step.case import NETWORKS as STEP_NETWORKS
from dfpkeras.benchmark.step.contenders import CONTENDERS
from dfpkeras.cli import option_values
from dfpkeras.cli.bench import ALL, run_bench
from dfpkeras.cli.bench_step import run_bench_step
from dfpkeras.cli.data_options import add_data
from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.faults import explain
from dfpkeras.cli.info import run_info
from dfpkeras.cli.monitor import add_monitor
from dfpkeras.cli.output import tolerant_streams
from dfpkeras.cli.train_options import add_train
from dfpkeras.kernels.convolution_plan import DIRECTIONS

FAULT, USAGE_ERROR, INTERRUPTED = 1, 2, 130


def main(arguments=None):
    """Runs the command.

    Args:
        arguments: list of str; None for those of the process.

    Returns:
        The exit code: 0, 2 for an error the user can correct (printed as one line) or output that
        was lost, 130 after an interrupt, 1 for a bug in dfpkeras (with a traceback).
    """
    with tolerant_streams() as output:
        try:
            code = _run(_parser().parse_args(arguments))
        except SystemExit as end:
            # How argparse ends after a help text or wrong arguments.
            output.flush()
            raise SystemExit(end.code or _code_of(output)) from None
    return code or _code_of(output)


def _code_of(output):
    """The exit code of a command that did its work; a closed pipe means that no more was wanted."""
    return USAGE_ERROR if output.lost and not isinstance(output.lost, BrokenPipeError) else 0


def _run(arguments):
    """Runs a command: the one place where the exceptions of all commands are handled."""
    try:
        arguments.run(arguments)
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'Interrupted.'}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = explain(error)
        if message is None:
            traceback.print_exc()
            message = "this is a bug in dfpkeras; please report it with the lines above"
            code = FAULT
        else:
            code = USAGE_ERROR
        print(f"dfpkeras {arguments.command}: error: {message}", file=sys.stderr)
        return code
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="dfpkeras", description="Train Keras models on INT16 dynamic-fixed-point kernels."
    )
    parser.add_argument("--version", action="version", version=f"dfpkeras {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_train(commands)
    add_monitor(commands)
    add_data(commands)
    _add_bench(commands)
    info = commands.add_parser("info", help="versions, CPU, instruction set and threads")
    info.set_defaults(run=lambda arguments: run_info())
    return parser


def _add_bench(commands):
    bench = commands.add_parser(
        "bench",
        help="compare layers, or whole training steps, with TensorFlow and PyTorch in float32",
        description="Times every distinct layer of a network, or with --step whole training steps, "
        "all libraries taking turns.",
        argument_default=argparse.SUPPRESS,
    )
    bench.add_argument(
        "--network",
        nargs="+",
        metavar="NAME",
        default=["resnet50"],
        help=f"networks to compare: {', '.join(LAYER_NETWORKS)}; with --step any model in "
        f"keras.applications; all for {', '.join(LAYER_NETWORKS)}, with --step for "
        f"{', '.join(STEP_NETWORKS)} (default: resnet50)",
    )
    bench.add_argument(
        "--batch-size",
        nargs="+",
        type=option_values.positive_int,
        metavar="N",
        help="images in a batch; several with --step (default: 16, for --inference 1 and 32)",
    )
    bench.add_argument(
        "--json", metavar="FILE", default=None, help="write everything that was measured"
    )
    bench.add_argument("--plot", metavar="FILE.png", default=None, help="draw a bar chart")
    _add_layer_options(bench.add_argument_group("layers"))
    _add_step_options(bench.add_argument_group("whole steps"))
    bench.set_defaults(run=_run_bench)


def _add_layer_options(group):
    group.add_argument("--direction", choices=(*DIRECTIONS, ALL), help="(default: all three)")
    group.add_argument(
        "--seconds",
        type=option_values.positive_float,
        help="time for each layer and direction, warm-up excluded (default: 1)",
    )


def _add_step_options(group):
    group.add_argument(
        "--step",
        action="store_true",
        default=False,
        help="compare train_on_batch: speed, memory, and where the time goes",
    )
    group.add_argument(
        "--inference", action="store_true", help="compare predict instead of train_on_batch"
    )
    group.add_argument(
        "--model",
        type=option_values.model_path,
        metavar="MODULE:FUNCTION",
        help="a model of your own instead of a network: what the function, called without "
        "arguments, returns",
    )
    group.add_argument(
        "--image-size",
        type=option_values.positive_int,
        metavar="N",
        help="side of the images (default: the network's own)",
    )
    group.add_argument(
        "--steps",
        type=option_values.positive_int,
        metavar="N",
        help="timed turns of each contender, after two untimed ones (default: 8)",
    )
    group.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, help="contenders to compare (default: all)"
    )
    group.add_argument(
        "--time-limit",
        type=option_values.positive_float,
        metavar="SECONDS",
        help="leave out a contender that takes longer to build the model, or for a turn "
        "(default: 120)",
    )


_COMMON_OPTIONS = {"command", "run", "step", "network", "batch_size", "json", "plot"}
_LAYER_OPTIONS = {"direction": ALL, "seconds": 1.0}
_STEP_OPTIONS = {
    "inference": False,
    "model": None,
    "image_size": None,
    "steps": 8,
    "contenders": tuple(CONTENDERS),
    "time_limit": 120.0,
}


def _run_bench(arguments):
    options = vars(arguments)
    known = _STEP_OPTIONS if arguments.step else _LAYER_OPTIONS
    _refuse_others(options.keys() - known.keys() - _COMMON_OPTIONS, arguments.step)
    files = {"json_path": arguments.json, "plot_path": arguments.plot}
    chosen = {name: options.get(name, default) for name, default in known.items()} | files
    batch_sizes = options.get("batch_size")
    if arguments.step:
        run_bench_step(networks=arguments.network, batch_sizes=batch_sizes, **chosen)
        return
    if len(batch_sizes or ()) > 1:
        raise CommandError(f"--batch-size: expected one number without --step; got {batch_sizes}")
    run_bench(arguments.network, batch_size=(batch_sizes or (16,))[0], **chosen)


def _refuse_others(names, step):
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
        raise CommandError(
            f"{options}: only for {'layers, without' if step else 'use with'} --step"
        )

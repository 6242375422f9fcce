"""The options of ``dfpkeras train``: those of every field of ``TrainConfig``, and a few more."""

import argparse

from dfpkeras.cli import option_values
from dfpkeras.cli.config import POLICIES, SETTINGS, takes_several
from dfpkeras.cli.train import run_train


def add_train(commands):
    """Adds the command to argparse's subparsers."""
    train = commands.add_parser(
        "train",
        help="train a model and save its history, checkpoints and curves",
        description="Trains with the recipe of the model, every setting of which is an option. "
        "Without --data, trains on 4,000 MNIST digits and tests on 1,000 others.",
        argument_default=argparse.SUPPRESS,
    )
    _add_policies(train)
    _add_settings(train)
    _add_files(train.add_argument_group("files"))
    train.set_defaults(run=_run)


def _add_policies(train):
    policy = train.add_mutually_exclusive_group()
    policy.add_argument(
        "--policy",
        type=option_values.dtype_policy,
        metavar="NAME",
        help="dtype policy: dfp16 (the default), float32, or dfp16 with arguments "
        'of DFP16Policy, such as "dfp16(algorithm=direct)"',
    )
    policy.add_argument(
        "--compare", action="store_true", help="train under dfp16 and float32 and plot both"
    )


def _add_settings(train):
    groups = {}
    for name, field in SETTINGS.items():
        if name != "policies":
            heading = field.metadata["group"]
            group = groups.get(heading) or train.add_argument_group(heading)
            groups[heading] = group
            group.add_argument(f"--{name.replace('_', '-')}", **_arguments(field))


def _arguments(field):
    """How argparse has to read the option of a field."""
    text = field.metadata["help"].replace("%", "%%")
    if isinstance(field.default, bool):
        return {"action": argparse.BooleanOptionalAction, "help": text}
    several = {"nargs": field.metadata.get("length", "*")} if takes_several(field) else {}
    return {"type": field.metadata["parse"], "help": text, "metavar": _metavar(field), **several}


def _metavar(field):
    return {"data": "DIR", "model": "NAME", "recipe": "NAME"}.get(field.name, "VALUE")


def _add_files(group):
    group.add_argument("--runs-dir", default="runs", help="where runs are kept (default: runs)")
    group.add_argument(
        "--name",
        type=option_values.run_name,
        default=None,
        help="name of the run (default: date, time and model)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="continue from the last checkpoint of the run --name, or of the newest run",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=option_values.positive_float,
        default=10.0,
        metavar="MINUTES",
        help="time between two checkpoints within an epoch (default: 10)",
    )
    group.add_argument(
        "--tensorboard",
        action="store_true",
        default=False,
        help="write event files for TensorBoard into the run's directory",
    )
    group.add_argument(
        "--monitor",
        action="store_true",
        default=False,
        help="record every 100 steps how well integers represent each layer's tensors: "
        "dfpkeras monitor shows it",
    )


def _run(arguments):
    options = vars(arguments)
    given = {name: options[name] for name in SETTINGS if name in options}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    if "policy" in options:
        given["policies"] = (options["policy"],)
    if "compare" in options:
        given["policies"] = POLICIES
    run_train(
        given,
        arguments.runs_dir,
        arguments.name,
        arguments.resume,
        arguments.checkpoint_minutes,
        arguments.tensorboard,
        arguments.monitor,
    )

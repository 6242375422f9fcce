"""Arguments of ``dfpkeras data``."""

import argparse

from dfpkeras.cli import option_values
from dfpkeras.cli.data import run_check, run_convert
from dfpkeras.cli.data_speed import run_speed


def add_data(commands):
    """Adds ``data`` and its commands to the commands of ``dfpkeras``."""
    data = commands.add_parser("data", help="convert and check images, time their preparation")
    actions = data.add_subparsers(dest="action", required=True)
    _add_convert(actions)
    _add_check(actions)
    _add_speed(actions)


def _add_convert(actions):
    convert = actions.add_parser(
        "convert",
        help="make TFRecords of images in class folders",
        description="Continues where an interrupted conversion with the same images and options "
        "ended.",
    )
    convert.add_argument(
        "--images",
        metavar="DIR",
        required=True,
        help="holds train/<class>/*.JPEG and either validation/<class>/*.JPEG or "
        "validation/*.JPEG (or val instead of validation; also .jpg, in any case)",
    )
    convert.add_argument("--out", metavar="DIR", required=True, help="where the TFRecords go")
    convert.add_argument(
        "--validation-list",
        metavar="FILE",
        help="classes of images that are not in class folders: lines <file> <class>, or <class> "
        "in the order of the sorted file names",
    )
    convert.add_argument(
        "--validation-synsets",
        metavar="FILE",
        help="if the classes of the list are numbers: line k is the class folder's name of "
        "number k",
    )
    for split, option in (("train", "--shards"), ("validation", "--validation-shards")):
        convert.add_argument(
            option,
            type=option_values.positive_int,
            metavar="N",
            help=f"number of {split} files (default: one for every 1,250 images, at most 1,024)",
        )
    convert.add_argument(
        "--seed", type=option_values.seed, default=0, help="seed of the images' order (default: 0)"
    )
    _add_workers(convert)
    convert.set_defaults(run=_run_convert)


def _add_check(actions):
    check = actions.add_parser(
        "check",
        help="read TFRecords back and decode every image",
        description="Exit code 2 if anything is wrong. Classes without images are reported, but "
        "are not faults.",
    )
    check.add_argument("directory", metavar="DIR", help="directory of the TFRecords")
    check.add_argument(
        "--classes",
        type=option_values.positive_int,
        metavar="N",
        help="number of classes (default: the lines of labels.txt, or 1000 without that file)",
    )
    _add_workers(check)
    check.set_defaults(
        run=lambda arguments: run_check(arguments.directory, arguments.classes, arguments.workers)
    )


def _add_speed(actions):
    speed = actions.add_parser(
        "speed",
        help="time reading and preparing the training images",
        description="Prints images/s of the data alone, with --model also of the training step.",
        argument_default=argparse.SUPPRESS,
    )
    speed.add_argument("directory", metavar="DIR", help="directory of the TFRecords")
    speed.add_argument(
        "--model", default=None, help="model whose recipe, and whose training step, to use"
    )
    for option, help_text in (
        ("image-size", "side of the images"),
        ("batch-size", "images in a batch"),
        ("classes", "number of classes"),
    ):
        speed.add_argument(
            f"--{option}",
            type=option_values.positive_int,
            metavar="N",
            help=f"{help_text} (default: the recipe's)",
        )
    speed.add_argument(
        "--seconds",
        type=option_values.positive_float,
        default=10.0,
        help="time for each, after two untimed batches (default: 10)",
    )
    speed.set_defaults(run=_run_speed)


def _add_workers(parser):
    parser.add_argument(
        "--workers",
        type=option_values.positive_int,
        metavar="N",
        help="threads (default: one per CPU)",
    )


def _run_convert(arguments):
    run_convert(
        arguments.images,
        arguments.out,
        arguments.validation_list,
        arguments.validation_synsets,
        {"train": arguments.shards, "validation": arguments.validation_shards},
        arguments.workers,
        arguments.seed,
    )


def _run_speed(arguments):
    options = vars(arguments)
    given = {
        name: options[name] for name in ("image_size", "batch_size", "classes") if name in options
    }
    run_speed(arguments.directory, arguments.model, arguments.seconds, given)

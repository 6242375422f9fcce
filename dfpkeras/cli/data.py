"""``dfpkeras data convert`` and ``dfpkeras data check``.

Modules that import TensorFlow are imported by the functions that need them, so that a missing
package is reported and not raised.
"""

import contextlib
import shlex
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TimeRemainingColumn
from rich.table import Table

from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.requirements import require_packages
from dfpkeras.console import make_console, make_progress
from dfpkeras.data.dataset import DataError
from dfpkeras.data.names import one_line
from dfpkeras.runtime.threads import count_cpus

_LISTED = 10
_IMAGENET_CLASSES = 1000


def run_convert(images, out, validation_list, validation_synsets, num_shards, workers, seed):
    """Converts class folders to TFRecords and prints what happened to the images.

    Args:
        images, validation_list, validation_synsets: as for ``find_images``.
        out, num_shards, seed: as for ``Conversion``.
        workers: number of threads; None for one on each CPU.

    Raises:
        CommandError: an error that the user can correct.
    """
    require_packages("tensorflow", "PIL", "simplejpeg")
    from dfpkeras.data.class_folders import find_images
    from dfpkeras.data.convert import Conversion

    with _command_errors():
        sources = find_images(images, validation_list, validation_synsets)
        with Conversion(sources, out, num_shards, seed) as conversion:
            if conversion.num_kept:
                print(f"Continuing: {conversion.num_kept} of {conversion.num_images} images done")
            with _progress(MofNCompleteColumn()) as progress:
                task = progress.add_task("converting", total=conversion.num_images)
                _run_or_tell_how_to_resume(
                    conversion, workers, lambda done: progress.update(task, completed=done)
                )
    _print_conversion(sources, conversion, Path(out))
    for split in sources.splits:
        if not conversion.num_records(split):
            raise CommandError(f"{out}: no image of {split} could be converted")


def run_check(directory, num_classes, workers):
    """Reads TFRecords back and prints what is in them and what is wrong.

    Args:
        directory: as for ``ImageRecords``.
        num_classes: None for the number of lines of labels.txt, or 1000 without such a file.
        workers: number of threads; None for one on each CPU.

    Raises:
        CommandError: there are faults, after they have been printed; or nothing to check.
    """
    require_packages("tensorflow", "PIL", "simplejpeg")
    from dfpkeras.data.check import check_directory, total_bytes
    from dfpkeras.data.manifest import count_classes

    with _command_errors():
        num_classes = num_classes or count_classes(directory) or _IMAGENET_CLASSES
        with _progress(TaskProgressColumn()) as progress:
            task = progress.add_task("checking", total=total_bytes(directory))
            reports = check_directory(
                directory,
                num_classes,
                workers or count_cpus(),
                lambda num_bytes: progress.advance(task, num_bytes),
            )
    _print_reports(directory, reports, num_classes)
    num_faults = sum(len(report.faults) for report in reports)
    if num_faults:
        raise CommandError(f"{directory}: {num_faults} faults")


def _run_or_tell_how_to_resume(conversion, workers, on_progress):
    try:
        conversion.run(workers or count_cpus(), on_progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted. Run the same command to continue.") from None


def _print_conversion(sources, conversion, out):
    from dfpkeras.data.manifest import BROKEN_NAME, SKIPPED_NAME

    table = Table(title=(one_line(str(out))))
    for heading in ("", "images", "written", "classes without images"):
        table.add_column(heading, justify="right" if heading else "left")
    for split, images in sources.splits.items():
        written = conversion.num_records(split)
        empty = len(sources.empty_classes(split))
        table.add_row(split, str(len(images)), str(written), f"{empty} of {len(sources.synsets)}")
    make_console().print(table)
    for split in sources.splits:
        if empty := sources.empty_classes(split):
            _print_names(f"{split}, classes without images", empty)
    for kind, count in sorted(conversion.repaired().items()):
        print(f"Re-encoded as RGB JPEG, {kind}: {count}")
    for kind, paths in sorted(sources.skipped.items()):
        _print_names(f"Skipped, {kind}", paths)
    if sources.skipped:
        print(one_line(f"Everything that was skipped is listed in {out / SKIPPED_NAME}"))
    if broken := conversion.broken():
        listed_in = one_line(str(out / BROKEN_NAME))
        print(f"Broken and left out: {len(broken)}, listed in {listed_in}")
        for path, reason in broken[:_LISTED]:
            print(f"    {one_line(shlex.quote(path))}: {one_line(reason)}")


def _print_names(heading, names):
    print(f"{heading}: {len(names)} ({one_line(_enumerate(names))})")


def _print_reports(directory, reports, num_classes):
    table = Table(title=(one_line(str(directory))))
    table.add_column("")
    for report in reports:
        table.add_column(report.name, justify="right")
    for name, values in _describe(reports, num_classes).items():
        table.add_row(name, *values)
    make_console().print(table)
    for report in reports:
        missing = report.missing_labels(num_classes)
        if missing:
            print(f"{report.name}: no image has the label {_enumerate(missing)}")
    for report in reports:
        for fault in report.faults:
            print(one_line(fault))
        if report.num_turned:
            print(
                f"{report.name}: {report.num_turned} images have an EXIF orientation, which "
                "training does not apply"
            )


def _describe(reports, num_classes):
    """Returns the rows of the table: a value for each report."""
    seen = [num_classes - len(report.missing_labels(num_classes)) for report in reports]
    return {
        "files": [str(report.num_files) for report in reports],
        "usable records": [str(report.num_records) for report in reports],
        "labels": [_range(report.class_counts.keys()) for report in reports],
        "classes with images": [f"{count} of {num_classes}" for count in seen],
        "images in each of these": [_range(report.class_counts.values()) for report in reports],
        "height": [_range(report.heights) for report in reports],
        "width": [_range(report.widths) for report in reports],
        "faults": [str(len(report.faults)) for report in reports],
    }


def _range(values):
    return f"{min(values)} to {max(values)}" if values else "none"


def _enumerate(values):
    listed = ", ".join(map(str, values[:_LISTED]))
    more = len(values) - _LISTED
    return f"{listed} and {more} others" if more > 0 else listed


def _progress(count_column):
    return make_progress("description", BarColumn(), count_column, TimeRemainingColumn())


@contextlib.contextmanager
def _command_errors():
    try:
        yield
    except DataError as error:
        raise CommandError(str(error)) from error

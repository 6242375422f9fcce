"""Whether a directory still holds all of its TFRecords."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

from dfpkeras.data.dataset import DataError

_NUMBERED = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)", re.DOTALL)
_LISTED = 100


class _NumberedFile(NamedTuple):
    """A file and the parts of its name, as strings."""

    path: Path
    before: str
    number: str
    total: str
    after: str


def find_file_faults(paths, split, manifest):
    """Compares the files of a split with what they should be.

    Args:
        paths: paths of the existing files, at least one.
        split: "train" or "validation".
        manifest: ``ManifestContent`` of a conversion that is finished; None to rely on names
            ``…NNNNN-of-NNNNN``.

    Returns:
        A line for each file that is missing, additional, or of another size.

    Raises:
        DataError: a file cannot be examined.
    """
    if not manifest:
        return _find_gaps(paths)
    expected = {name: r for name, r in manifest.shards.items() if name.startswith(f"{split}-")}
    found = {path.name: path for path in paths}
    faults = [f"{paths[0].parent}/{name}: missing" for name in expected if name not in found]
    for name, path in found.items():
        if name not in expected:
            faults.append(f"{path}: not one of the files that were converted")
        elif (size := _size(path)) != expected[name].num_bytes:
            faults.append(f"{path}: {size} bytes, but {expected[name].num_bytes} were converted")
    return sorted(faults)


def find_count_fault(path, count, manifest):
    """Returns a line if a file holds more or fewer records than were converted, or None.

    Args:
        path: path of the file.
        count: number of its records.
        manifest: as for ``find_file_faults``.
    """
    shard = manifest.shards.get(path.name) if manifest else None
    if shard and count != shard.num_records:
        return f"{path}: {count} records, but {shard.num_records} were converted"
    return None


def require_complete(paths, split, manifest):
    """Raises a ``DataError`` that names the first of the faults that ``find_file_faults`` finds."""
    faults = find_file_faults(paths, split, manifest)
    if faults:
        others = f" ({len(faults)} such faults; dfpkeras data check names all)"
        raise DataError(faults[0] + (others if len(faults) > 1 else ""))


def _find_gaps(paths):
    sets = {}
    for path in sorted(paths):
        if match := _NUMBERED.fullmatch(path.name):
            file = _NumberedFile(path, *match.groups())
            sets.setdefault((file.before, file.after), []).append(file)
    return [fault for files in sets.values() for fault in _find_gaps_in_set(files)]


def _find_gaps_in_set(files):
    """Returns the faults of files whose names differ only in their numbers."""
    totals = sorted({int(file.total) for file in files})
    if len(totals) > 1:
        listed = " and ".join(map(str, totals))
        return [f"{files[0].path}: next to files of another set; their totals are {listed}"]
    faults, seen = [], {}
    for file in files:
        number = int(file.number)
        if number in seen:
            faults.append(f"{file.path}: {seen[number].path.name} has the same number")
        elif number >= totals[0]:
            faults.append(f"{file.path}: its number is not below its total")
        else:
            seen[number] = file
    return faults + _name_missing(files, totals[0], seen)


def _name_missing(files, total, seen):
    example, before, digits, written_total, after = files[0]
    folder = example.parent
    gaps = (number for number in range(total) if number not in seen)
    faults = [
        f"{folder}/{before}{number:0{len(digits)}d}-of-{written_total}{after}: missing"
        for number in itertools.islice(gaps, _LISTED)
    ]
    others = total - len(seen) - len(faults)
    return faults + ([f"{folder}: {others} others of {total} are missing"] if others else [])


def _size(path):
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error

"""Labels of the images in a flat validation folder, from a text file."""

import codecs
import ntpath
import posixpath
from pathlib import Path

from dfpkeras.data.dataset import DataError

_MAX_DIGITS = 9


def read_labels(folder, names, labels, list_path, synsets_path):
    """Reads the labels of images; ``find_images`` describes the forms of the list.

    Args:
        folder: folder of the images, for messages.
        names: names of the images in it.
        labels: dict of the label of each synset.
        list_path: path of the list, or None.
        synsets_path: path of a file with the synset of number k in line k, or None.

    Returns:
        A dict of the label of each name.

    Raises:
        DataError: the list or the synsets do not fit, or cannot be read.
    """
    if list_path is None:
        raise DataError(
            f"{folder}: images without class folders; expected a list of their classes "
            "(--validation-list)"
        )
    return _ListReader(folder, names, labels, list_path, synsets_path).read()


class _ListReader:
    """Arguments as for ``read_labels``."""

    def __init__(self, folder, names, labels, list_path, synsets_path):
        self._folder = folder
        self._names = sorted(names)
        self._known = frozenset(names)
        self._labels = labels
        self._path = list_path
        self._numbered = _read_synsets(synsets_path) if synsets_path else None

    def read(self):
        lines = _read_lines(self._path)
        first = lines[0][1] if lines else ""
        in_order = first in self._labels or first.isdecimal()
        if in_order and len(lines) != len(self._names):
            raise DataError(
                f"{self._path}: {len(lines)} lines, but {self._folder} holds {len(self._names)} "
                "images"
            )
        found = {}
        for place, (number, line) in enumerate(lines):
            name, text = (self._names[place], line) if in_order else self._split(number, line)
            label = self._label(number, text)
            if found.setdefault(name, label) != label:
                raise DataError(
                    f"{self._path}: line {number}: lists {name} again, with another class"
                )
        self._check_complete(found)
        return found

    def _split(self, number, line):
        # File names may contain spaces.
        path, _, text = line.rpartition("\t" if "\t" in line else " ")
        if not path:
            raise DataError(f"{self._path}: line {number}: expected <file> <class>; got {line!r}")
        return self._file_name(path.strip()), text.strip()

    def _file_name(self, path):
        name = posixpath.basename(path)
        # A name may itself contain a backslash.
        return name if name in self._known else ntpath.basename(path)

    def _label(self, number, text):
        synset = text
        if text not in self._labels and text.isdecimal() and len(text) <= _MAX_DIGITS:
            synset = self._numbered_synset(number, int(text))
        if synset not in self._labels:
            raise DataError(f"{self._path}: line {number}: train has no folder for class {synset}")
        return self._labels[synset]

    def _numbered_synset(self, line, number):
        if self._numbered is None:
            raise DataError(
                f"{self._path}: line {line}: {number} is a number; expected also a list with a "
                "synset per line, the first one for number 1 (--validation-synsets)"
            )
        if not 1 <= number <= len(self._numbered):
            raise DataError(
                f"{self._path}: line {line}: {number} is not in 1..{len(self._numbered)}, the "
                "lines of --validation-synsets"
            )
        return self._numbered[number - 1]

    def _check_complete(self, found):
        unlisted, missing = self._known - found.keys(), found.keys() - self._known
        if unlisted:
            raise DataError(f"{self._path}: does not list {min(unlisted)} ({len(unlisted)} such)")
        if missing:
            raise DataError(
                f"{self._folder}: {min(missing)} is missing, which {self._path} lists "
                f"({len(missing)} such)"
            )


def _read_synsets(path):
    """Returns the synsets; a line's number is the class's."""
    lines = _read_lines(path)
    seen = {}
    for place, (number, synset) in enumerate(lines, 1):
        if number != place:
            raise DataError(f"{path}: line {place} is blank, so the numbers are ambiguous")
        if synset in seen:
            raise DataError(f"{path}: line {number}: {synset} is already in line {seen[synset]}")
        seen[synset] = number
    return list(seen)


def _read_lines(path):
    """Returns number, from 1, and text of the lines that are not blank."""
    try:
        content = Path(path).read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]

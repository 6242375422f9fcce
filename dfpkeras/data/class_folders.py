"""Images in folders that are named after their class: what is to be converted to TFRecords.

::

    train/<synset>/*.JPEG
    validation/<synset>/*.JPEG     or     validation/*.JPEG and a list

The folder ``validation`` may also be called ``val``; names end in .JPEG, .jpeg, .JPG or .jpg.
"""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from dfpkeras.data.dataset import DataError

_SUFFIXES = (".jpeg", ".jpg")


class SourceImage(NamedTuple):
    """A file to be converted: its path within the images' directory, label from 1, and size."""

    path: str
    label: int
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class SourceImages:
    """What ``find_images`` found.

    Attributes:
        directory: the images' directory.
        synsets: names of the classes, sorted; the label of the first one is 1.
        splits: "train" and "validation", each a list of ``SourceImage`` sorted by path.
        num_others: files that are ignored because their names end in something else.
    """

    directory: Path
    synsets: tuple[str, ...]
    splits: dict[str, list[SourceImage]]
    num_others: int

    def empty_classes(self, split):
        """Returns the synsets without an image."""
        labels = {image.label for image in self.splits[split]}
        return [synset for label, synset in enumerate(self.synsets, 1) if label not in labels]


def find_images(directory, validation_list=None, validation_synsets=None):
    """Finds the images of both splits and their labels.

    The folders in ``train`` make up the classes, also the empty ones. A flat validation folder
    needs a list, a text file in one of these forms:

    - a line ``<file> <class>`` for each image, in any order, with a space or a tab between them;
    - a line ``<class>`` for each image, in the order of the sorted file names.

    A class is a synset, or a number. Numbers are those of ``validation_synsets``, whose first
    line is the synset with the number 1: the numbers of ILSVRC2012's
    ``ILSVRC2012_validation_ground_truth.txt`` do not follow the sorted synsets.

    Args:
        directory: holds the folders.
        validation_list: path of the list, or None.
        validation_synsets: path of a file with a synset per line, or None.

    Returns:
        ``SourceImages``.

    Raises:
        DataError: a folder or an image is missing, or the list does not fit; names the file and
            the line.
    """
    directory = Path(directory)
    train = _require_folder(directory, "train")
    validation = _require_folder(directory, "validation", "val")
    synsets = tuple(_subfolders(train))
    if not synsets:
        raise DataError(f"{train}: no folders in it; needed is one for each class")
    labels = {synset: label for label, synset in enumerate(synsets, 1)}
    train_images, train_others = _class_images(directory, train, labels)
    if _subfolders(validation):
        if validation_list:
            raise DataError(f"{validation}: has class folders, but a list of labels is given, too")
        images, others = _class_images(directory, validation, labels)
    else:
        names, others = _image_files(validation)
        given = _ListReader(validation, names, labels, validation_list, validation_synsets)
        images = _label_files(directory, validation, names, given.read())
    splits = {"train": train_images, "validation": images}
    for split, folder in (("train", train), ("validation", validation)):
        if not splits[split]:
            raise DataError(f"{folder}: no images (*.JPEG, *.jpg) in it")
    return SourceImages(directory, synsets, splits, train_others + others)


class _ListReader:
    """Reads the labels of a flat validation folder from a list."""

    def __init__(self, folder, names, labels, list_path, synsets_path):
        self._folder = folder
        self._names = sorted(names)
        self._labels = labels
        self._path = list_path
        self._numbered = _read_lines(synsets_path) if synsets_path else None

    def read(self):
        """Returns the label of each file name."""
        if self._path is None:
            raise DataError(
                f"{self._folder}: images without class folders; needed is a list of their classes "
                "(--validation-list)"
            )
        lines = _read_lines(self._path)
        in_order = bool(lines) and (lines[0] in self._labels or lines[0].isdecimal())
        if in_order and len(lines) != len(self._names):
            raise DataError(
                f"{self._path}: {len(lines)} lines, but {self._folder} holds {len(self._names)} "
                "images"
            )
        found = {}
        for number, line in enumerate(lines, 1):
            name, text = (self._names[number - 1], line) if in_order else self._split(number, line)
            found[name] = self._label(number, text.strip())
        self._check_complete(found)
        return found

    def _split(self, number, line):
        # File names may hold spaces.
        name, _, text = line.rpartition("\t" if "\t" in line else " ")
        if not name:
            raise DataError(f"{self._path}: line {number}: needed is <file> <class>; got {line!r}")
        return os.path.basename(name.strip()), text

    def _label(self, number, text):
        synset = text
        if text not in self._labels and text.isdecimal():
            synset = self._numbered_synset(number, int(text))
        if synset not in self._labels:
            raise DataError(f"{self._path}: line {number}: train has no folder for class {synset}")
        return self._labels[synset]

    def _numbered_synset(self, line, number):
        if self._numbered is None:
            raise DataError(
                f"{self._path}: line {line}: {number} is a number; needed is also a list with a "
                "synset per line, the first one for number 1 (--validation-synsets)"
            )
        if not 1 <= number <= len(self._numbered):
            raise DataError(
                f"{self._path}: line {line}: {number} is not in 1..{len(self._numbered)}, the "
                "lines of --validation-synsets"
            )
        return self._numbered[number - 1]

    def _check_complete(self, found):
        unlisted, missing = set(self._names) - found.keys(), found.keys() - set(self._names)
        if unlisted:
            raise DataError(f"{self._path}: does not list {min(unlisted)} ({len(unlisted)} such)")
        if missing:
            raise DataError(
                f"{self._folder}: {min(missing)} is missing, which {self._path} lists "
                f"({len(missing)} such)"
            )


def _require_folder(directory, *names):
    """Returns the one folder of these names."""
    found = [directory / name for name in names if (directory / name).is_dir()]
    if len(found) != 1:
        number = "both folders" if found else "no folder"
        raise DataError(f"{directory}: {number} {' and '.join(names)}; needed is one")
    return found[0]


def _subfolders(folder):
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _image_files(folder):
    """Returns the sizes of the images in a folder, by name, and the number of other files."""
    sizes, others = {}, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file() and entry.name.lower().endswith(_SUFFIXES):
                sizes[entry.name] = entry.stat().st_size
            else:
                others += 1
    return sizes, others


def _class_images(directory, folder, labels):
    """Returns the images in the class folders, sorted by path, and the number of other files."""
    images, num_others = [], 0
    for synset in _subfolders(folder):
        if synset not in labels:
            raise DataError(f"{folder / synset}: train has no folder of that name")
        sizes, others = _image_files(folder / synset)
        of_class = dict.fromkeys(sizes, labels[synset])
        images += _label_files(directory, folder / synset, sizes, of_class)
        num_others += others
    return images, num_others


def _label_files(directory, folder, sizes, labels):
    prefix = folder.relative_to(directory)
    return [SourceImage(str(prefix / name), labels[name], sizes[name]) for name in sorted(sizes)]


def _read_lines(path):
    """Returns the lines of a text file that are not empty."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]

"""Images in folders that are named after their class: what is to be converted to TFRecords.

::

    train/<synset>/*.JPEG
    validation/<synset>/*.JPEG     or     validation/*.JPEG and a list

The folder ``validation`` may also be called ``val``; names end in .JPEG, .jpeg, .JPG or .jpg.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from dfpkeras.data.dataset import DataError
from dfpkeras.data.folder_entries import NESTED, OUTSIDE, FolderEntries
from dfpkeras.data.validation_list import read_labels


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
        skipped: everything else: sorted paths within the directory, by kind (constants of
            ``folder_entries``).
    """

    directory: Path
    synsets: tuple[str, ...]
    splits: dict[str, list[SourceImage]]
    skipped: dict[str, list[str]]

    def empty_classes(self, split):
        """Returns the synsets without an image."""
        labels = {image.label for image in self.splits[split]}
        return [synset for label, synset in enumerate(self.synsets, 1) if label not in labels]


def find_images(directory, validation_list=None, validation_synsets=None):
    """Finds the images of both splits and their labels.

    The folders in ``train`` are the classes, including empty ones. A flat validation folder
    needs a list, a text file in one of these forms:

    - a line ``<file> <class>`` for each image, in any order, with a space or a tab between them;
    - a line ``<class>`` for each image, in the order of the sorted file names.

    A file may be written with its folder, with slashes or backslashes. Any line endings are
    accepted, blank lines are ignored, and a file may be listed twice with the same class.

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
        DataError: a folder or an image is missing or cannot be read, or the list does not fit;
            names the file and the line.
    """
    try:
        return _find_images(Path(directory), validation_list, validation_synsets)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _find_images(directory, validation_list, validation_synsets):
    train = _require_folder(directory, "train")
    validation = _require_folder(directory, "validation", "val")
    entries = FolderEntries(directory)
    synsets, stray = entries.read(train)
    entries.skip(OUTSIDE, train, stray)
    _check_class_names(train, synsets)
    labels = {synset: label for label, synset in enumerate(synsets, 1)}
    train_images = _class_images(entries, train, synsets, labels)
    folders, images = entries.read(validation)
    if folders:
        if validation_list or validation_synsets:
            raise DataError(f"{validation}: has class folders, but a list of labels is given")
        entries.skip(OUTSIDE, validation, images)
        validation_images = _class_images(entries, validation, folders, labels)
    else:
        given = read_labels(validation, images, labels, validation_list, validation_synsets)
        validation_images = _label_files(directory, validation, images, given)
    splits = {"train": train_images, "validation": validation_images}
    for split, folder in (("train", train), ("validation", validation)):
        if not splits[split]:
            raise DataError(f"{folder}: no images (*.JPEG, *.jpg) in it")
    return SourceImages(directory, tuple(synsets), splits, entries.skipped)


def _require_folder(directory, *names):
    """Returns the one folder of these names."""
    found = [directory / name for name in names if (directory / name).is_dir()]
    if len(found) != 1:
        number = "both folders" if found else "no folder"
        raise DataError(f"{directory}: {number} {' and '.join(names)}; expected one")
    return found[0]


def _check_class_names(train, synsets):
    if not synsets:
        raise DataError(f"{train}: no folders in it; expected one for each class")
    for synset in synsets:
        if "\n" in synset or "\r" in synset:
            raise DataError(f"{train}: the name of the folder {synset!r} has more than one line")


def _class_images(entries, folder, synsets, labels):
    """Returns the images in the class folders, sorted by path."""
    images = []
    for synset in synsets:
        if synset not in labels:
            raise DataError(f"{folder / synset}: train has no folder of that name")
        subfolders, sizes = entries.read(folder / synset)
        entries.skip(NESTED, folder / synset, subfolders)
        of_class = dict.fromkeys(sizes, labels[synset])
        images += _label_files(entries.directory, folder / synset, sizes, of_class)
    return images


def _label_files(directory, folder, sizes, labels):
    prefix = folder.relative_to(directory)
    return [SourceImage(str(prefix / name), labels[name], sizes[name]) for name in sorted(sizes)]

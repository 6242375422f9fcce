"""The two layouts of image TFRecords: names of files and features of records."""

import dataclasses
import fnmatch
import os
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from dfpkeras.data import jpeg
from dfpkeras.data.dataset import DataError

SPLITS = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """How files are named and what a record holds.

    Attributes:
        name: name in messages.
        files: names of the files of a split, with ``*`` for any characters.
        image_feature: bytes, a JPEG.
        label_feature: one integer.
        first_label: the label of the first class.
    """

    name: str
    files: str
    image_feature: str
    label_feature: str
    first_label: int

    def list_files(self, directory, split):
        """Returns the sorted paths of the files of a split.

        Raises:
            DataError: the directory cannot be read.
        """
        pattern = self.files.format(split=split)
        try:
            names = [n for n in os.listdir(directory) if fnmatch.fnmatchcase(n, pattern)]
            paths = [Path(directory) / name for name in names]
            return sorted(path for path in paths if path.is_file())
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    def describe_files(self):
        """Returns the names of the files of both splits, for messages."""
        return " and ".join(self.files.format(split=split) for split in SPLITS)

    def parse(self, record, num_classes):
        """Returns the JPEG and the label, counted from 0, of a serialized example (tensors)."""
        features = {
            self.image_feature: tf.io.FixedLenFeature([], tf.string),
            self.label_feature: tf.io.FixedLenFeature([], tf.int64),
        }
        parsed = tf.io.parse_single_example(record, features)
        label = parsed[self.label_feature] - self.first_label
        in_range = tf.debugging.Assert(
            (label >= 0) & (label < num_classes), [self.label_feature, label]
        )
        with tf.control_dependencies([in_range]):
            return parsed[self.image_feature], tf.identity(label)

    def read(self, record):
        """Returns the JPEG and the label, as stored, of a serialized example (bytes).

        Raises:
            DataError: they are missing.
        """
        try:
            features = tf.train.Example.FromString(record).features.feature
        except DecodeError as error:
            raise DataError("not a tf.train.Example") from error
        images = features[self.image_feature].bytes_list.value
        labels = features[self.label_feature].int64_list.value
        if len(images) != 1:
            raise DataError(f"the feature {self.image_feature} (one JPEG) is missing")
        if len(labels) != 1:
            raise DataError(f"the feature {self.label_feature} (one integer) is missing")
        return images[0], labels[0]

    def check_label(self, label, num_classes):
        """Raises a ``DataError`` if a label, as stored, is out of range."""
        last_label = self.first_label + num_classes - 1
        if not self.first_label <= label <= last_label:
            raise DataError(
                f"{self.label_feature} is {label}, but must be from {self.first_label} to "
                f"{last_label}, for {num_classes} classes"
            )

    def decode(self, encoded):
        """Returns the pixels of a JPEG, uint8 ``(height, width, 3)``.

        Raises:
            DataError: it is not a JPEG, or damaged.
        """
        self._require_jpeg(encoded)
        try:
            return tf.io.decode_jpeg(encoded, channels=3)
        except tf.errors.InvalidArgumentError as error:
            raise DataError(f"the JPEG in {self.image_feature} is truncated or damaged") from error

    def check_image(self, encoded):
        """Returns the ``JpegHeader`` of a complete JPEG; raises a ``DataError`` for others."""
        self._require_jpeg(encoded)
        try:
            return jpeg.check_jpeg(encoded)
        except DataError as error:
            raise DataError(f"{self.image_feature}: {error}") from error

    def _require_jpeg(self, encoded):
        if not encoded.startswith(jpeg.START):
            raise DataError(f"{self.image_feature} is not a JPEG")


IMAGENET = RecordLayout(
    name="ImageNet",
    files="{split}-*",
    image_feature="image/encoded",
    label_feature="image/class/label",
    first_label=1,
)
TFDS = RecordLayout(
    name="TFDS",
    files="*-{split}.tfrecord-*",
    image_feature="image",
    label_feature="label",
    first_label=0,
)


def find_layout(directory):
    """Returns the layout of the files in a directory.

    Raises:
        DataError: there is no such directory, or it holds files of neither or both layouts.
    """
    if not os.path.isdir(directory):
        raise DataError(f"{directory}: no such directory")
    found = [
        layout
        for layout in (IMAGENET, TFDS)
        if any(layout.list_files(directory, split) for split in SPLITS)
    ]
    if len(found) == 2:
        raise DataError(
            f"{directory}: holds files of two layouts, {IMAGENET.describe_files()} as well as "
            f"{TFDS.describe_files()}; expected one of them"
        )
    return _by_features(found[0], directory) if found else IMAGENET


def _by_features(layout, directory):
    """Returns the layout with the features that the first record really has.

    Files may have been renamed; if the record is unreadable, the file names decide.
    """
    paths = [os.fsencode(path) for split in SPLITS for path in layout.list_files(directory, split)]
    try:
        record = next(iter(tf.data.TFRecordDataset(paths))).numpy()
        features = tf.train.Example.FromString(record).features.feature.keys()
    except (StopIteration, tf.errors.OpError, DecodeError):
        return layout
    for other in (IMAGENET, TFDS):
        if {other.image_feature, other.label_feature} <= features:
            return dataclasses.replace(other, files=layout.files)
    return layout

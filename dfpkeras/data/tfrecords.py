"""TFRecords in the layout of ImageNet or of TFDS.

A directory holds files ``train-*`` and ``validation-*``, whose records are ``tf.train.Example``s
with ``image/encoded`` (a JPEG) and ``image/class/label`` (an integer from 1 to the number of
classes); or, as TFDS names them, ``<name>-train.tfrecord-*`` and ``<name>-validation.tfrecord-*``
with ``image`` and ``label`` (from 0).
"""

import concurrent.futures
import hashlib
import math
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dfpkeras.data import preprocessing
from dfpkeras.data.completeness import find_count_fault, require_complete
from dfpkeras.data.dataset import DataError, ImageData
from dfpkeras.data.layout import IMAGENET, SPLITS, TFDS, find_layout
from dfpkeras.data.manifest import require_finished
from dfpkeras.data.preparation import ImagePreparation

IMAGE_SIZE = 224
NUM_CLASSES = 1000
INTERLEAVED_FILES = 16
SHUFFLE_BUFFER_BYTES = 256 * 2**20

# A record: length (uint64) and its checksum (uint32), the data and their checksum (uint32).
_HEADER_BYTES = 12
_FOOTER_BYTES = 4


class RecordFiles:
    """The files of one split, and how many records each holds.

    Records have a number within their file and an index within the split, both from 0.

    Args:
        directory: where the files are.
        split: ``"train"`` or ``"validation"``.
        layout: ``RecordLayout`` of the directory.
        manifest: ``ManifestContent`` of the directory, or None.

    Raises:
        DataError: there is no such directory or file, there is no record, a file ends within a
            record, or files or records are missing or unexpected.
    """

    def __init__(self, directory, split, layout, manifest):
        self.paths = list_files(directory, split, layout)
        require_complete(self.paths, split, manifest)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self._scans = list(pool.map(scan_records, self.paths))
        self.counts = np.array([scan.num_records for scan in self._scans], dtype=np.int64)
        for path, count in zip(self.paths, self.counts, strict=True):
            if fault := find_count_fault(path, count, manifest):
                raise DataError(fault)
        # Here, because TensorFlow would try to compile `os.fsencode` where it traces.
        self.encoded_paths = [os.fsencode(path) for path in self.paths]
        self.starts = np.cumsum(self.counts) - self.counts
        self.num_records = int(self.counts.sum())
        if not self.num_records:
            raise DataError(
                f"{directory}: the files {layout.files.format(split=split)} hold no records"
            )
        size = sum(path.stat().st_size for path in self.paths)
        self.mean_record_bytes = size / self.num_records

    def digest(self):
        """Returns the SHA-256 of the files' names, and their records' lengths and checksums."""
        digest = hashlib.sha256()
        for path, scan in zip(self.paths, self._scans, strict=True):
            digest.update(f"{path.name}\0{scan.digest}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def locate(self, index):
        """Returns the path of the file and the record's number in it."""
        position = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.paths[position], int(index - self.starts[position])


class ImageRecords(ImageData):
    """Images read from TFRecords with tf.data.

    Training reads the files in a shuffled order, 16 at a time, one record of each in turn, passes
    the records through a shuffle buffer of up to 256 MiB (at least 1,024 records), and decodes only
    the part of a JPEG that the crop asks for.

    The constructor counts the records of all files, by reading the records' lengths, compares files
    and counts with the conversion they come from (or the numbers in the files' names), and reads
    the first record of each file. The other records are checked when they are read.

    Images are taken as stored: EXIF's orientation is not applied, and what is missing within a
    damaged JPEG is grey. ``dfpkeras data check`` finds both.

    Args:
        directory: holds files of one of the two layouts.
        image_size: side of the square images in the batches.
        num_classes: labels must be in ``1..num_classes`` (TFDS: ``0..num_classes - 1``); in the
            batches they count from 0.
        preparation: ``ImagePreparation``, how images are cropped, augmented and normalised.

    Raises:
        DataError: names the directory, or the file and the record, and what is wrong with it.
        ValueError: the preparation cannot make images of that size.
    """

    def __init__(
        self,
        directory,
        image_size=IMAGE_SIZE,
        num_classes=NUM_CLASSES,
        preparation=ImagePreparation(),
    ):
        preparation.check_image_size(image_size)
        self.directory = Path(directory)
        self.preparation = preparation
        self.image_shape = (image_size, image_size, 3)
        self.num_classes = num_classes
        self._layout = find_layout(directory)
        manifest = require_finished(directory)
        self._files = {
            split: RecordFiles(directory, split, self._layout, manifest) for split in SPLITS
        }
        self.num_train = self._files["train"].num_records
        self.num_validation = self._files["validation"].num_records
        for files in self._files.values():
            for path, count in zip(files.paths, files.counts, strict=True):
                if count:
                    self._check_records(path, [0])

    def train_batches(
        self,
        batch_size,
        seed,
        initial_epoch,
        epochs,
        normalize=True,
        steps_per_epoch=None,
        initial_batch=0,
    ):
        files = self._files["train"]
        image_size, preparation = self.image_shape[0], self.preparation

        def decode(index, record, image_seed):
            encoded, label = self._layout.parse(record, self.num_classes)
            image_seed = tf.random.fold_in(image_seed, index)
            image = preprocessing.train_image(encoded, image_size, image_seed, preparation)
            return preprocessing.normalize(image, preparation) if normalize else image, label

        def epoch_batches(epoch, open_file, first_batch=0):
            image_seed = tf.stack([tf.cast(seed, tf.int64), epoch])
            records = _shuffled(files, seed, epoch, open_file).skip(first_batch * batch_size)
            images = records.map(
                lambda index, record: decode(index, record, image_seed),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            steps = steps_per_epoch - first_batch if steps_per_epoch else -1
            return images.batch(batch_size).take(steps)

        left_out = _left_out(files, seed, initial_epoch, initial_batch * batch_size)
        first_epoch = epoch_batches(
            tf.constant(initial_epoch, tf.int64), _read_file(files, left_out), initial_batch
        )
        later_epochs = tf.data.Dataset.range(initial_epoch + 1, epochs).flat_map(
            lambda epoch: epoch_batches(epoch, _read_file(files))
        )
        return first_epoch.concatenate(later_epochs).prefetch(tf.data.AUTOTUNE)

    def validation_batches(self, batch_size, normalize=True):
        image_size, preparation = self.image_shape[0], self.preparation

        def decode(record):
            encoded, label = self._layout.parse(record, self.num_classes)
            image = preprocessing.evaluation_image(encoded, image_size, preparation)
            return preprocessing.normalize(image, preparation) if normalize else image, label

        images = tf.data.TFRecordDataset(self._files["validation"].encoded_paths).map(
            decode, num_parallel_calls=tf.data.AUTOTUNE
        )
        # Without a known number of batches Keras would warn at the end of the data.
        num_batches = -(-self.num_validation // batch_size)
        batches = images.batch(batch_size).prefetch(tf.data.AUTOTUNE)
        return batches.apply(tf.data.experimental.assert_cardinality(num_batches))

    def raise_for_bad_record(self, split, epoch, batch, batch_size, seed):
        files = self._files[split]
        begin = batch * batch_size
        if split == "train":
            order = _shuffled(files, seed, epoch, _enumerate_file(files))
            indices = order.skip(begin).take(batch_size).as_numpy_iterator()
        else:
            indices = range(begin, min(begin + batch_size, files.num_records))
        numbers = {}
        for path, number in map(files.locate, indices):
            numbers.setdefault(path, []).append(number)
        for path in sorted(numbers):
            self._check_records(path, sorted(numbers[path]))
        # The record need not be in that batch: the shuffle buffer reads far ahead.
        order = range(len(files.paths)) if split != "train" else _file_order(files, seed, epoch)
        for position in _from_record(files, order, begin):
            for _ in read_records(files.paths[position], int(files.counts[position])):
                pass

    def describe(self):
        return {
            "num_classes": self.num_classes,
            "num_train": self.num_train,
            "num_validation": self.num_validation,
            **{f"digest_of_{split}_files": files.digest() for split, files in self._files.items()},
        }

    def _check_records(self, path, numbers):
        """Raises a ``DataError`` for the first of these records of a file that is not usable."""
        wanted = set(numbers)
        for number, record in read_records(path, max(wanted) + 1):
            if number in wanted:
                check_record(path, number, record, self._layout, self.num_classes)


def list_files(directory, split, layout):
    """Returns the files of a split; raises a ``DataError`` if there are none."""
    paths = layout.list_files(directory, split)
    if not paths:
        raise DataError(
            f"{directory}: no files {layout.files.format(split=split)}; expected TFRecord files "
            f"{IMAGENET.describe_files()}, or those of TFDS, {TFDS.describe_files()}"
        )
    return paths


class FileScan(NamedTuple):
    """What the lengths and checksums of a file's records say, without reading the data.

    Attributes:
        num_records: int.
        digest: SHA-256 of the lengths and the checksums of all records, hexadecimal.
    """

    num_records: int
    digest: str


def scan_records(path):
    """Returns the ``FileScan`` of a file, which reads only the 16 bytes between two records' data.

    Raises:
        DataError: the last record is not complete, or the file cannot be read.
    """
    count = offset = 0
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while offset < size:
                before = min(offset, _FOOTER_BYTES)
                between = os.pread(file.fileno(), before + _HEADER_BYTES, offset - before)
                digest.update(between)
                header = between[before:]
                if len(header) == _HEADER_BYTES:
                    (length,) = struct.unpack("<Q", header[:8])
                    offset += _HEADER_BYTES + length + _FOOTER_BYTES
                if len(header) < _HEADER_BYTES or offset > size:
                    raise DataError(
                        f"{name_record(path, count)}: the file ends within this record "
                        "(it is truncated, or not a TFRecord file)"
                    )
                count += 1
            if size:
                digest.update(os.pread(file.fileno(), _FOOTER_BYTES, size - _FOOTER_BYTES))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return FileScan(count, digest.hexdigest())


def _read_file(files, left_out=None):
    """Returns a function from a file's position to a dataset of (index, serialized example).

    Args:
        files: ``RecordFiles``.
        left_out: bool per file; the examples of such a file are empty, and it is not read.
    """
    paths = tf.constant(files.encoded_paths)
    starts = tf.constant(files.starts)
    left_out = tf.constant(np.zeros(len(files.paths), bool) if left_out is None else left_out)
    enumerate_file = _enumerate_file(files)

    def open_file(position):
        path, skip = paths[position], left_out[position]
        read = tf.data.TFRecordDataset(tf.boolean_mask([path], [~skip])).enumerate(starts[position])
        placeholders = enumerate_file(position).take(tf.where(skip, tf.int64.max, 0))
        return read.concatenate(placeholders.map(lambda index: (index, "")))

    return open_file


def _left_out(files, seed, epoch, count):
    """Returns for each file whether all its records are among the first ``count`` of an epoch."""
    order = _shuffled(files, seed, epoch, _enumerate_file(files)).take(count).batch(2**16)
    still_needed = np.ones(files.num_records, bool)
    for indices in order.as_numpy_iterator():
        still_needed[indices] = False
    ends = files.starts + files.counts
    needed_before = np.concatenate([[0], np.cumsum(still_needed)])
    return needed_before[ends] == needed_before[files.starts]


def _enumerate_file(files):
    """Returns a function from a file's position to a dataset of its records' indices."""
    starts, ends = tf.constant(files.starts), tf.constant(files.starts + files.counts)
    return lambda position: tf.data.Dataset.range(starts[position], ends[position])


def _shuffled(files, seed, epoch, open_file):
    """Returns the elements of all files in the order of an epoch.

    The order depends on the number of elements in each file, not on what they are: with
    ``_enumerate_file`` it gives the order of the records without reading any.
    """

    def epoch_elements(epoch):
        # The shuffle buffer's order depends on TensorFlow's global seed as well, which must be the
        # same in a resumed and an uninterrupted run: this sets it for the function being traced.
        tf.random.set_seed(1)
        positions = tf.data.Dataset.from_tensor_slices(_file_order(files, seed, epoch))
        elements = positions.interleave(
            open_file,
            cycle_length=INTERLEAVED_FILES,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return elements.shuffle(
            _shuffle_buffer(files),
            seed=tf.cast(seed, tf.int64) * 65537 + epoch,
            reshuffle_each_iteration=False,
        )

    return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(epoch_elements)


def _file_order(files, seed, epoch):
    """Returns the order in which an epoch opens the files."""
    return tf.random.experimental.stateless_shuffle(
        tf.range(len(files.paths), dtype=tf.int64),
        seed=tf.stack([tf.cast(seed, tf.int64), epoch]),
    )


def _from_record(files, order, count):
    """Returns an order of files that begins with those still open after ``count`` records."""
    order = np.asarray(order)
    done = np.cumsum(files.counts[order]) + INTERLEAVED_FILES * files.counts.max() <= count
    return [*order[~done], *order[done]]


def _shuffle_buffer(files):
    affordable = max(int(SHUFFLE_BUFFER_BYTES / files.mean_record_bytes), 1024)
    # The order must not depend on every byte: a damaged file may be repaired during a run.
    return min(files.num_records, 2 ** int(math.log2(affordable)))


def read_records(path, count):
    """Yields the number and the bytes of the first ``count`` records of a file.

    Raises:
        DataError: the file is missing, a record's checksum does not match, or there are fewer.
    """
    records = iter(tf.data.TFRecordDataset(os.fsencode(path)))
    for number in range(count):
        try:
            yield number, next(records).numpy()
        except tf.errors.NotFoundError as error:
            raise DataError(f"{path}: no such file, though it was there before") from error
        except (StopIteration, tf.errors.OpError) as error:
            raise DataError(f"{name_record(path, number)}: damaged or truncated") from error


def check_record(path, number, record, layout, num_classes):
    """Raises a ``DataError`` that names the record if it cannot be used."""
    try:
        encoded, label = layout.read(record)
        layout.check_label(label, num_classes)
        layout.decode(encoded)
    except DataError as error:
        raise DataError(f"{name_record(path, number)}: {error}") from error


def name_record(path, number):
    """Returns the name of a record in messages."""
    return f"{path}: record {number} (counting from 0)"

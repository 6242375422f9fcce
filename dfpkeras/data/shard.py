"""Writing one file of TFRecords from image files."""

import dataclasses
import os
from pathlib import Path

import tensorflow as tf

from dfpkeras.data.class_folders import SourceImage
from dfpkeras.data.dataset import DataError
from dfpkeras.data.repair import read_jpeg
from dfpkeras.files import write_atomically


class StoppedError(Exception):
    """The conversion ends before the shard is whole."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file to be written: its path, and the images that go into it, in order."""

    path: Path
    images: tuple[SourceImage, ...]


@dataclasses.dataclass
class ShardResult:
    """What happened to the images of a shard.

    Attributes:
        num_records: images written.
        num_bytes: size of the file.
        repaired: how many were re-encoded, by reason (``repair.CMYK`` and the like).
        broken: path and reason of each image that was left out.
    """

    num_records: int = 0
    num_bytes: int = 0
    repaired: dict[str, int] = dataclasses.field(default_factory=dict)
    broken: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def write_shard(shard, directory, synsets, count_image):
    """Writes a shard, which gets its name only once it is complete and on disk.

    Args:
        shard: ``Shard``.
        directory: the directory that the images' paths are relative to.
        synsets: names of the classes.
        count_image: function called before each image; may raise ``StoppedError``.

    Returns:
        ``ShardResult``.

    Raises:
        DataError: the file cannot be written, for instance because the disk is full.
        StoppedError: from ``count_image``.
    """
    result = ShardResult()

    def write(path):
        try:
            with tf.io.TFRecordWriter(os.fsencode(path)) as writer:
                for image in shard.images:
                    count_image()
                    _write_image(writer, image, directory, synsets, result)
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
        result.num_bytes = path.stat().st_size

    write_atomically(shard.path, write, DataError)
    return result


def _write_image(writer, image, directory, synsets, result):
    try:
        encoded, height, width, repairs = read_jpeg(directory / image.path)
    except DataError as error:
        result.broken.append((image.path, str(error)))
        return
    for repair in repairs:
        result.repaired[repair] = result.repaired.get(repair, 0) + 1
    features = {
        "image/encoded": _bytes(encoded),
        "image/height": _integer(height),
        "image/width": _integer(width),
        "image/class/label": _integer(image.label),
        "image/class/synset": _bytes(os.fsencode(synsets[image.label - 1])),
        "image/filename": _bytes(os.fsencode(os.path.basename(image.path))),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Otherwise the order of the features would change from process to process.
    writer.write(example.SerializeToString(deterministic=True))
    result.num_records += 1


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integer(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

"""TFRecords in the layout of ImageNet, written from the photographs that foolbox ships."""

import functools
import importlib.util
from pathlib import Path

import tensorflow as tf


def photographs():
    """Returns the 20 ImageNet photographs as JPEG bytes."""
    # Not imported: foolbox would bring in the frameworks it attacks.
    (package,) = importlib.util.find_spec("foolbox").submodule_search_locations
    paths = sorted((Path(package) / "data").glob("imagenet_*.jpg"))
    assert len(paths) == 20
    return [path.read_bytes() for path in paths]


def thumbnails(size=48):
    """Returns the photographs scaled down, so that tests need not wait for the decoder."""
    return list(_scaled_down(size))


@functools.cache
def _scaled_down(size):
    small = []
    for photograph in photographs():
        image = tf.image.resize(tf.io.decode_jpeg(photograph), (size, size), antialias=True)
        small.append(tf.io.encode_jpeg(tf.cast(image, tf.uint8), quality=95).numpy())
    return small


def example(encoded=None, label=None):
    """Returns a serialized example with the features that are not None."""
    features = {}
    if encoded is not None:
        features["image/encoded"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    if label is not None:
        features["image/class/label"] = tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        )
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records):
    """Writes serialized examples to a file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write_directory(directory, jpegs, labels=None, num_files=3):
    """Writes the images to ``train-*``, one in turn to each file, and four to ``validation-*``.

    Labels count from 1; without ``labels`` every image has a different one.
    """
    labels = labels or range(1, len(jpegs) + 1)
    records = [example(*pair) for pair in zip(jpegs, labels, strict=True)]
    for file in range(num_files):
        name = f"train-{file:05d}-of-{num_files:05d}"
        write_records(directory / name, records[file::num_files])
    write_records(directory / "validation-00000-of-00002", records[:3])
    write_records(directory / "validation-00001-of-00002", records[3:4])

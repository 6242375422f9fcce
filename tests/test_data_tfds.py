"""Records in the layout of TFDS: `image` and `label`, counted from 0, in files of other names."""

import re

import numpy as np
import pytest
import tensorflow as tf
from image_records import thumbnails, write_directory, write_records

from dfpkeras.data.check import check_directory
from dfpkeras.data.dataset import DataError
from dfpkeras.data.preprocessing import evaluation_image
from dfpkeras.data.tfrecords import ImageRecords

SIZE = 16


@pytest.fixture(scope="module")
def jpegs():
    return thumbnails()


def example(jpeg, label):
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"n01_1.JPEG"])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def name(split, number, total):
    return f"imagenet2012-{split}.tfrecord-{number:05d}-of-{total:05d}"


@pytest.fixture
def directory(tmp_path, jpegs):
    """Image k has the label k; k % 2 is the number of its file. Two of them are in validation."""
    records = [example(jpeg, label) for label, jpeg in enumerate(jpegs)]
    for number in range(2):
        write_records(tmp_path / name("train", number, 2), records[number::2])
    write_records(tmp_path / name("validation", 0, 1), records[:2])
    (tmp_path / "features.json").write_text("{}")
    return tmp_path


def labels_of(batches):
    return [int(label) for _, labels in batches for label in labels]


@pytest.mark.slow
def test_images_and_labels_are_read(directory, jpegs):
    data = ImageRecords(directory, SIZE, num_classes=20)
    assert (data.num_train, data.num_validation) == (20, 2)
    assert sorted(labels_of(data.train_batches(6, 0, 0, 1))) == list(range(20))
    for label, (images, labels) in enumerate(data.validation_batches(1, normalize=False)):
        np.testing.assert_array_equal(images[0], evaluation_image(jpegs[label], SIZE))
        np.testing.assert_array_equal(labels, [label])
    assert label == 1


@pytest.mark.slow
def test_features_count_if_the_files_were_renamed(directory):
    for path in sorted(directory.glob("*tfrecord*")):
        path.rename(directory / re.sub(r".*-(train|validation)\.tfrecord", r"\1", path.name))
    data = ImageRecords(directory, SIZE, num_classes=20)
    assert sorted(labels_of(data.train_batches(6, 0, 0, 1))) == list(range(20))


def test_two_layouts_in_one_directory_are_refused(directory, jpegs):
    write_directory(directory, jpegs)
    message = r"two layouts, train-\* and validation-\* as well as \*-train.tfrecord-\*"
    with pytest.raises(DataError, match=message):
        ImageRecords(directory, SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("label", [-1, 20])
def test_a_bad_label_is_named_as_it_is_written(directory, jpegs, label):
    path = directory / name("train", 1, 2)
    write_records(path, [example(jpegs[0], 1), example(jpegs[1], label)])
    data = ImageRecords(directory, SIZE, num_classes=20)
    with pytest.raises(tf.errors.OpError):
        list(data.train_batches(20, 0, 0, 1))
    message = f"{path.name}: record 1 .*label is {label}, but must be from 0 to 19"
    with pytest.raises(DataError, match=message):
        data.raise_for_bad_record("train", 0, 0, 20, 0)


def test_a_bad_image_is_named(directory, jpegs):
    path = directory / name("validation", 0, 1)
    write_records(path, [example(jpegs[0][:-9], 1)])
    with pytest.raises(DataError, match=f"{path.name}: record 0 .*the JPEG in image is truncated"):
        ImageRecords(directory, SIZE, num_classes=20)


def test_a_split_without_files_is_named(directory):
    (directory / name("validation", 0, 1)).unlink()
    with pytest.raises(DataError, match=r"no files \*-validation.tfrecord-\*"):
        ImageRecords(directory, SIZE, num_classes=20)


def test_the_checker_reads_it(directory):
    train, validation = check_directory(directory, 20, workers=1)
    assert train.class_counts == dict.fromkeys(range(20), 1)
    assert train.missing_labels(21) == [20]
    assert (train.faults, validation.faults) == ([], [])
    (directory / name("train", 0, 2)).unlink()
    train, _ = check_directory(directory, 20, workers=1)
    assert train.faults == [f"{directory}/{name('train', 0, 2)}: missing"]

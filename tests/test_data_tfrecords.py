"""Reading ImageNet-layout TFRecords: what is read, in which order, how it is cropped, and the
errors of bad records."""

import io
import re

import numpy as np
import pytest
import tensorflow as tf
from image_records import example, photographs, thumbnails, write_directory, write_records
from PIL import Image

from dfpkeras.data import preprocessing
from dfpkeras.data.dataset import DataError
from dfpkeras.data.tfrecords import ImageRecords

SIZE = 16


@pytest.fixture(scope="module")
def jpegs():
    return thumbnails()


@pytest.fixture
def directory(tmp_path, jpegs):
    write_directory(tmp_path, jpegs)
    return tmp_path


def labels_of(batches):
    return [int(label) for _, labels in batches for label in labels]


# What is read, and in which order


@pytest.mark.slow
def test_every_record_is_read_once_per_epoch(directory):
    data = ImageRecords(directory, SIZE, num_classes=20)
    assert (data.num_train, data.num_validation) == (20, 4)
    batches = list(data.train_batches(batch_size=8, seed=0, initial_epoch=0, epochs=3))
    assert [len(labels) for _, labels in batches] == [8, 8, 4] * 3
    for epoch in range(3):
        assert sorted(labels_of(batches[3 * epoch : 3 * epoch + 3])) == list(range(20))
    assert labels_of(data.validation_batches(batch_size=3)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_an_epoch_may_end_early(directory):
    data = ImageRecords(directory, SIZE, num_classes=20)
    whole = [labels.numpy().tolist() for _, labels in data.train_batches(8, 0, 0, 2)]
    short = data.train_batches(8, 0, 0, 2, steps_per_epoch=2)
    assert [labels.numpy().tolist() for _, labels in short] == [*whole[:2], *whole[3:5]]


@pytest.mark.slow
def test_images_belong_to_their_labels(directory, jpegs):
    data = ImageRecords(directory, SIZE, num_classes=20)
    for image, label in data.validation_batches(1, normalize=False):
        expected = preprocessing.evaluation_image(jpegs[int(label[0])], SIZE)
        np.testing.assert_array_equal(image[0], expected)
    means = np.array([np.asarray(Image.open(io.BytesIO(jpeg))).mean() for jpeg in jpegs])
    seen = np.zeros(20)
    for images, labels in data.train_batches(20, 0, 0, 20, normalize=False):
        seen[labels.numpy()] += images.numpy().mean(axis=(1, 2, 3)) / 20
    # Crops of other images would give about 0, with a standard deviation of 0.23.
    assert np.corrcoef(means, seen)[0, 1] > 0.75


@pytest.mark.slow
def test_order_and_pixels_follow_the_seed_and_the_epoch_alone(directory):
    data = ImageRecords(directory, SIZE, num_classes=20)
    unbroken = list(data.train_batches(20, seed=5, initial_epoch=0, epochs=3))
    tf.random.set_seed(0)
    resumed = list(data.train_batches(20, seed=5, initial_epoch=1, epochs=3))
    for (images, labels), (expected_images, expected_labels) in zip(
        resumed, unbroken[1:], strict=True
    ):
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(images, expected_images)
    orders = {tuple(labels_of([batch])) for batch in unbroken}
    orders.add(tuple(labels_of(data.train_batches(20, seed=6, initial_epoch=0, epochs=1))))
    assert len(orders) == 4, "every epoch and every seed must have a different order"


@pytest.mark.slow
def test_augmentation_differs_between_epochs(directory):
    data = ImageRecords(directory, SIZE, num_classes=20)
    first, second = data.train_batches(20, seed=0, initial_epoch=0, epochs=2)
    by_label = [images.numpy()[np.argsort(labels)] for images, labels in (first, second)]
    changed = np.abs(by_label[0] - by_label[1]).max(axis=(1, 2, 3)) > 0.1
    assert changed.all()


@pytest.mark.slow
def test_shuffling_goes_across_files(directory):
    """Label k is in file k % 3; neither the files nor the places in them may stay in order."""
    data = ImageRecords(directory, SIZE, num_classes=20)
    order = np.array(labels_of(data.train_batches(20, seed=0, initial_epoch=0, epochs=1)))
    assert (np.diff(order % 3) != 0).sum() > 5
    assert abs(np.corrcoef(order // 3, np.arange(20))[0, 1]) < 0.7


# Crops


def jpeg_of(image):
    """Encodes without chroma subsampling, so that decoding a part equals a part of the whole."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


@pytest.mark.parametrize("portrait", [False, True])
def test_central_crop_equals_cutting_and_pillows_resizing(portrait):
    photograph = np.asarray(Image.open(io.BytesIO(photographs()[10])))
    assert photograph.shape == (683, 1024, 3)
    jpeg = jpeg_of(photograph.transpose(1, 0, 2) if portrait else photograph)
    whole = tf.io.decode_jpeg(jpeg).numpy()
    height, width, _ = whole.shape
    side = round(0.875 * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    square = whole[top : top + side, left : left + side].astype(np.float32)
    expected = [
        Image.fromarray(square[..., channel]).resize((224, 224), Image.Resampling.BILINEAR)
        for channel in range(3)
    ]
    result = preprocessing.evaluation_image(jpeg, 224)
    np.testing.assert_allclose(result, np.stack(expected, axis=-1), atol=0.02)


def windows_of_random_crops(count):
    """Returns top, left, height and width (of 1) and the flip of crops of a 320x240 image.

    Red grows from left to right and green from top to bottom, so a crop's pixels tell where it
    was cut out.
    """
    width, height = 320, 240
    red, green = np.meshgrid(np.linspace(20, 235, width), np.linspace(20, 235, height))
    jpeg = jpeg_of(np.stack([red, green, np.full_like(red, 128)], -1).round().astype(np.uint8))
    crops = np.stack(
        [preprocessing.train_image(jpeg, 32, tf.constant([3, i], tf.int64)) for i in range(count)]
    )
    # The slope inside, away from the edges that antialiasing flattens.
    columns = (crops[..., 0].mean(axis=1) - 20) / 215
    rows = (crops[..., 1].mean(axis=2) - 20) / 215
    flipped = columns[:, 0] > columns[:, -1]
    columns[flipped] = columns[flipped, ::-1]
    crop_width = (columns[:, 28] - columns[:, 3]) * 32 / 25
    crop_height = (rows[:, 28] - rows[:, 3]) * 32 / 25
    left, top = columns.mean(axis=1) - crop_width / 2, rows.mean(axis=1) - crop_height / 2
    return top, left, crop_height, crop_width, flipped


@pytest.mark.slow
def test_random_crops_have_the_areas_and_shapes_asked_for():
    top, left, height, width, flipped = windows_of_random_crops(400)
    area, aspect = height * width, width * 320 / (height * 240)
    assert area.min() > 0.06
    assert area.max() < 1.02
    assert area.min() < 0.15
    assert area.max() > 0.8
    assert aspect.min() > 0.72
    assert aspect.max() < 1.37
    assert aspect.min() < 0.8
    assert aspect.max() > 1.27
    # 400 tosses: 0.5 +- 4 standard deviations of 0.025.
    assert 0.4 < flipped.mean() < 0.6
    for offset, extent in ((top, height), (left, width)):
        assert offset.min() > -0.02
        assert (offset + extent).max() < 1.02
        place = offset / np.maximum(1 - extent, 0.05)
        assert 0.4 < place.mean() < 0.6
        assert place.std() > 0.2


def test_the_same_seed_makes_the_same_crop():
    jpeg = photographs()[0]
    seeds = [tf.constant(seed, tf.int64) for seed in ([1, 2], [1, 2], [1, 3], [2, 2])]
    crops = [preprocessing.train_image(jpeg, 32, seed).numpy() for seed in seeds]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert np.abs(crops[0] - crops[2]).max() > 1
    assert np.abs(crops[0] - crops[3]).max() > 1


@pytest.mark.slow
def test_grey_jpegs_get_three_channels(tmp_path):
    grey = Image.open(io.BytesIO(photographs()[0])).convert("L").resize((40, 30))
    buffer = io.BytesIO()
    grey.save(buffer, "JPEG")
    write_directory(tmp_path, [buffer.getvalue()] * 6)
    data = ImageRecords(tmp_path, SIZE)
    for batches in (data.train_batches(6, 0, 0, 1, False), data.validation_batches(6, False)):
        ((images, _),) = batches
        assert images.shape[1:] == (SIZE, SIZE, 3)
        np.testing.assert_allclose(images[..., 0], images[..., 1], atol=1e-3)
        np.testing.assert_allclose(images[..., 0], images[..., 2], atol=1e-3)


def test_normalized_pixels_are_those_of_imagenet(directory):
    data = ImageRecords(directory, SIZE, num_classes=20)
    (raw, _), *_ = data.validation_batches(4, normalize=False)
    (normalized, _), *_ = data.validation_batches(4)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalized, (raw / 255 - mean) / std, rtol=1e-4, atol=1e-5)
    assert tf.reduce_min(raw) >= 0
    assert 100 < tf.reduce_max(raw) <= 255


# Bad records


def png_of(jpeg):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(buffer, "PNG")
    return buffer.getvalue()


def baseline_jpeg(jpeg):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(buffer, "JPEG", quality=90, progressive=False)
    return buffer.getvalue()


BAD_RECORDS = {
    "truncated": (lambda jpeg: example(jpeg[: len(jpeg) // 2], 1), "JPEG .* truncated"),
    "nearly whole": (lambda jpeg: example(jpeg[:-40], 1), "JPEG .* truncated"),
    "baseline": (lambda jpeg: example(baseline_jpeg(jpeg)[:-40], 1), "JPEG .* truncated"),
    "png": (lambda jpeg: example(png_of(jpeg), 1), "not a JPEG"),
    "empty": (lambda jpeg: example(b"", 1), "not a JPEG"),
    "no image": (lambda jpeg: example(label=1), "feature image/encoded .* missing"),
    "no label": (lambda jpeg: example(jpeg), "feature image/class/label .* missing"),
    "label 0": (lambda jpeg: example(jpeg, 0), "label is 0, but must be from 1 .* 1000"),
    "label 1001": (lambda jpeg: example(jpeg, 1001), "label is 1001, but must be from 1 .* 1000"),
    "junk": (lambda jpeg: b"\x0ajunk", "not a tf.train.Example"),
}


def read_until_error(data, split, batch_size):
    """Returns the number of the batch that TensorFlow fails to make."""
    batches = (
        data.train_batches(batch_size, seed=7, initial_epoch=2, epochs=3)
        if split == "train"
        else data.validation_batches(batch_size)
    )
    read = 0
    with pytest.raises(tf.errors.OpError):
        for _ in batches:
            read += 1
    return read


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record_is_named(directory, jpegs, kind, split):
    make, problem = BAD_RECORDS[kind]
    path = directory / f"{split}-00001-others"
    records = [example(jpeg, 1) for jpeg in jpegs[:4]]
    records[2] = make(jpegs[2])
    write_records(path, records)
    data = ImageRecords(directory, SIZE)
    batch_size = 3
    failed = read_until_error(data, split, batch_size)
    message = f"{re.escape(str(path))}: record 2 .*{problem}"
    for batch in range(3):
        if batch == failed:
            with pytest.raises(DataError, match=message):
                data.raise_for_bad_record(split, 2, batch, batch_size, seed=7)
        else:
            data.raise_for_bad_record(split, 2, batch, batch_size, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_first_record_is_named_before_anything_is_read(directory, jpegs, kind):
    make, problem = BAD_RECORDS[kind]
    path = directory / "validation-00001-of-00002"
    write_records(path, [make(jpegs[0]), example(jpegs[1], 1)])
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: record 0 .*{problem}"):
        ImageRecords(directory, SIZE)


@pytest.mark.slow
def test_damaged_bytes_are_named(directory):
    """The record's checksum no longer matches."""
    path = directory / "train-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(content)
    data = ImageRecords(directory, SIZE)
    failed = read_until_error(data, "train", 20)
    with pytest.raises(DataError, match=rf"{path.name}: record 6 .* damaged"):
        data.raise_for_bad_record("train", 2, failed, 20, seed=7)


@pytest.mark.parametrize("cut", [1, 5, 500])
def test_a_truncated_file_is_named(directory, cut):
    path = directory / "train-00001-of-00003"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=rf"{path.name}: record 6 .* ends within this record"):
        ImageRecords(directory, SIZE)


def test_a_file_of_another_kind_is_named(directory):
    path = directory / "train-readme"
    path.write_text("These are not the records you are looking for.")
    with pytest.raises(DataError, match=rf"{path.name}: record 0 .* not a TFRecord file"):
        ImageRecords(directory, SIZE)


def test_the_window_does_not_matter_for_a_truncated_jpeg():
    """A decoder that stops after the window's last row would not see that the rest is missing."""
    jpeg = baseline_jpeg(photographs()[0])
    assert preprocessing.evaluation_image(jpeg, 8).shape == (8, 8, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocessing.evaluation_image(jpeg[: int(0.98 * len(jpeg))], 8)


def test_bytes_after_a_jpeg_do_not_matter():
    """Such a file is decoded as a whole; colours at the window's edges may differ a little."""
    jpeg = photographs()[0]
    expected = preprocessing.evaluation_image(jpeg, 32)
    np.testing.assert_allclose(
        preprocessing.evaluation_image(jpeg + b"\0" * 7, 32), expected, atol=0.5
    )


# Directories


def test_missing_files_are_named(tmp_path, jpegs):
    with pytest.raises(DataError, match="nowhere: no such directory"):
        ImageRecords(tmp_path / "nowhere", SIZE)
    with pytest.raises(DataError, match=r"no files train-\*"):
        ImageRecords(tmp_path, SIZE)
    write_records(tmp_path / "train-0", [example(jpegs[0], 1)])
    with pytest.raises(DataError, match=r"no files validation-\*"):
        ImageRecords(tmp_path, SIZE)
    (tmp_path / "validation-0").touch()
    with pytest.raises(DataError, match=r"validation-\* hold no records"):
        ImageRecords(tmp_path, SIZE)


@pytest.mark.slow
def test_empty_files_among_others_do_not_matter(directory):
    (directory / "train-00000-empty").touch()
    data = ImageRecords(directory, SIZE, num_classes=20)
    assert sorted(labels_of(data.train_batches(20, 0, 0, 1))) == list(range(20))
    data.raise_for_bad_record("train", 0, 0, 20, seed=0)

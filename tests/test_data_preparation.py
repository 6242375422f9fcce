"""The pixels are processed as an ``ImagePreparation`` says."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from image_records import photographs, thumbnails, write_directory
from PIL import Image

from dfpkeras.data.preparation import ImagePreparation
from dfpkeras.data.preprocessing import evaluation_image, normalize, train_image
from dfpkeras.data.tfrecords import ImageRecords

WIDTH, HEIGHT = 320, 240


def jpeg_of(image):
    """Encodes without chroma subsampling, so that decoding a part equals a part of the whole."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def ramps():
    """Returns a JPEG that is redder to the right and greener to the bottom, and its pixels."""
    red, green = np.meshgrid(np.linspace(20, 235, WIDTH), np.linspace(20, 235, HEIGHT))
    jpeg = jpeg_of(np.stack([red, green, np.full_like(red, 128)], -1).round().astype(np.uint8))
    return jpeg, tf.io.decode_jpeg(jpeg).numpy()


def noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    jpeg = jpeg_of(pixels)
    return jpeg, tf.io.decode_jpeg(jpeg).numpy()


def train_images(jpeg, image_size, count, **fields):
    """Returns the training images that ``count`` seeds make."""
    preparation = ImagePreparation(**fields)

    def prepare(number):
        return train_image(jpeg, image_size, tf.stack([tf.cast(3, tf.int64), number]), preparation)

    return np.stack(list(tf.data.Dataset.range(count).map(prepare).as_numpy_iterator()))


# The values


BAD_FIELDS = {
    "train_crop": ["centre", None],
    "train_resize": [(256, 224), (0, 10), (1, 2, 3)],
    "crop_area": [(0.0, 1.0), (0.5, 1.1), (0.9, 0.8)],
    "crop_aspect_ratio": [(-1.0, 1.0), (2.0, 1.0)],
    "pad": [-1],
    "lighting": [-0.1],
    "evaluation_resize": [0, -1, "256", "none"],
    "mean": [(0.5, 0.5)],
    "std": [(0.5, 0.5), (0.5, 0.0, 0.5)],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in BAD_FIELDS for value in BAD_FIELDS[field]]
)
def test_invalid_values_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} is .*, but must be "):
        ImagePreparation(**{field: value})


def test_lists_as_a_file_holds_them_are_the_same_as_tuples():
    fields = dataclasses.asdict(ImagePreparation())
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    assert ImagePreparation(**lists) == ImagePreparation()


@pytest.mark.parametrize(
    "fields",
    [{"train_crop": "random", "train_resize": (99, 200)}, {"evaluation_resize": 99}],
)
def test_an_image_size_that_cannot_be_cut_out_is_refused(tmp_path, fields):
    write_directory(tmp_path, thumbnails())
    preparation = ImagePreparation(**fields)
    with pytest.raises(
        ValueError, match=r"_resize is .*, but must be at least the image size, 100"
    ):
        ImageRecords(tmp_path, 100, 20, preparation)
    ImageRecords(tmp_path, 99, 20, preparation)


# Crops of training images


@pytest.mark.slow
def test_random_crops_without_resizing_are_parts_of_the_image():
    jpeg, whole = ramps()
    size = 200
    crops = train_images(
        jpeg, size, 300, train_crop="random", train_resize=(HEIGHT, HEIGHT), horizontal_flip=False
    )
    # Red and green give column and row to about two pixels; the neighbours are tried as well.
    places = []
    for crop in crops:
        left = round((crop[..., 0].mean() - 20) / 215 * (WIDTH - 1) - (size - 1) / 2)
        top = round((crop[..., 1].mean() - 20) / 215 * (HEIGHT - 1) - (size - 1) / 2)
        candidates = [(y, x) for y in range(top - 3, top + 4) for x in range(left - 3, left + 4)]
        (place,) = [p for p in candidates if np.array_equal(crop, part(whole, *p, size))]
        places.append(place)
    top, left = np.transpose(places)
    for place, free in ((top, HEIGHT - size), (left, WIDTH - size)):
        assert (place.min(), place.max()) <= (free // 20, free)
        assert place.max() > 0.95 * free
        assert abs(place.mean() / free - 0.5) < 0.08
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.2


def part(whole, top, left, size):
    """Returns a square, empty unless it lies within the image."""
    inside = 0 <= top <= whole.shape[0] - size and 0 <= left <= whole.shape[1] - size
    return whole[top : top + size, left : left + size] if inside else whole[:0]


def test_scale_jitter_covers_its_range_and_nothing_else():
    jpeg, _ = ramps()
    low, high = 64, 128
    crops = train_images(
        jpeg, 32, 400, train_crop="random", train_resize=(low, high), horizontal_flip=False
    )
    # The ramp's slope within a crop tells how much the image was resized.
    slope = (crops[:, 5:-5, 27, 0] - crops[:, 5:-5, 4, 0]).mean(axis=1) / 23
    shorter = HEIGHT * (215 / (WIDTH - 1)) / slope
    assert low - 2 < shorter.min() < low + 4
    assert high - 6 < shorter.max() < high + 4
    assert abs(shorter.mean() - (low + high) / 2) < 4


@pytest.mark.slow
def test_random_crops_equal_pillows_resizing_and_a_crop():
    """A window in the image, resized, is the window in the resized image up to rounding."""
    photograph = Image.open(io.BytesIO(photographs()[10]))
    size, width = 256, 384
    crops = train_images(photographs()[10], size, 4, train_crop="random", train_resize=(size, size))
    resized = photograph.resize((width, size), Image.Resampling.BILINEAR)
    resized = np.asarray(resized, np.float32)
    for crop in crops:
        differences = [
            np.abs(resized[:, left : left + size] - image).mean()
            for image in (crop, crop[:, ::-1])
            for left in range(width - size + 1)
        ]
        assert min(differences) < 8 < np.median(differences) / 4


@pytest.mark.slow
@pytest.mark.parametrize("pad", [4, 1])
def test_padded_crops_are_shifted_images_with_black_borders(pad):
    jpeg, whole = noise(32, 32)
    crops = train_images(
        jpeg, 32, 400, train_crop="pad", pad=pad, evaluation_resize=None, horizontal_flip=False
    )
    padded = np.pad(whole, [(pad, pad), (pad, pad), (0, 0)])
    shifts = [(y, x) for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
    seen = [
        shift
        for crop in crops
        for shift in shifts
        if np.array_equal(crop, part(padded, *shift, 32))
    ]
    assert len(seen) == 400
    assert len(set(seen)) > 0.97 * len(shifts)


def test_padding_comes_after_the_evaluations_square():
    jpeg, whole = noise(40, 60)
    (crop,) = train_images(
        jpeg, 32, 1, train_crop="pad", pad=0, evaluation_resize=None, horizontal_flip=False
    )
    np.testing.assert_array_equal(crop, whole[4:36, 14:46])


@pytest.mark.slow
def test_large_images_are_decoded_at_a_lower_resolution_with_little_loss():
    jpeg = photographs()[10]
    whole = tf.io.decode_jpeg(jpeg)
    height, width, _ = whole.shape
    fields = {"crop_area": (1.0, 1.0), "crop_aspect_ratio": (width / height, width / height)}
    # The shorter side is 683.
    for size, exact in ((80, False), (160, False), (200, True)):
        (image,) = train_images(jpeg, size, 1, horizontal_flip=False, **fields)
        difference = np.abs(image - tf.image.resize(whole, (size, size), antialias=True))
        assert difference.mean() < 2
        assert (difference.max() < 0.01) == exact


# Colours and mirroring


@pytest.mark.slow
def test_mirroring_can_be_switched_off():
    jpeg, _ = ramps()
    for flip, expected in ((True, 0.5), (False, 0.0)):
        images = train_images(jpeg, 8, 400, horizontal_flip=flip)
        mirrored = images[:, :, 0, 0].mean(axis=1) > images[:, :, -1, 0].mean(axis=1)
        # 400 tosses: 4 standard deviations of 0.025.
        assert abs(mirrored.mean() - expected) <= (0.1 if flip else 0)


@pytest.mark.slow
def test_colour_noise_has_the_spread_of_imagenets_components():
    jpeg = jpeg_of(np.full((8, 8, 3), 128, np.uint8))
    images = train_images(jpeg, 4, 3000, lighting=0.1)
    plain = train_images(jpeg, 4, 1)
    shifts = images[:, 0, 0] - plain[0, 0, 0]
    np.testing.assert_allclose(
        images - plain, np.broadcast_to(shifts[:, None, None], images.shape), atol=1e-3
    )
    components = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    spread = 0.1 * 255 * np.array([0.2175, 0.0188, 0.0045])
    np.testing.assert_allclose((shifts @ components).std(axis=0), spread, rtol=0.06)
    np.testing.assert_allclose((shifts @ components).mean(axis=0) / spread, 0, atol=0.07)
    correlation = np.corrcoef((shifts @ components).T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.07)


def test_normalizing_uses_the_given_mean_and_deviation():
    pixels = np.array([[0.0, 51.0, 255.0]], np.float32)
    preparation = ImagePreparation(mean=(0.5, 0.1, 0.0), std=(0.25, 0.1, 2.0))
    np.testing.assert_allclose(normalize(pixels, preparation), [[-2.0, 1.0, 0.5]], rtol=1e-5)


# Evaluation


@pytest.mark.parametrize(("resize", "side"), [(128, 240), (160, 192), (192, 160), ("auto", 210)])
def test_evaluation_cuts_out_the_centre_of_the_resized_image(resize, side):
    jpeg, whole = noise(HEIGHT, WIDTH)
    top, left = (HEIGHT - side) // 2, (WIDTH - side) // 2
    square = whole[top : top + side, left : left + side].astype(np.float32)
    expected = [
        Image.fromarray(square[..., channel]).resize((128, 128), Image.Resampling.BILINEAR)
        for channel in range(3)
    ]
    image = evaluation_image(jpeg, 128, ImagePreparation(evaluation_resize=resize))
    np.testing.assert_allclose(image, np.stack(expected, axis=-1), atol=0.02)


def test_evaluation_without_resizing_cuts_out_the_centre():
    jpeg, whole = noise(41, 50)
    preparation = ImagePreparation(evaluation_resize=None)
    np.testing.assert_array_equal(evaluation_image(jpeg, 32, preparation), whole[4:36, 9:41])
    np.testing.assert_array_equal(evaluation_image(jpeg, 41, preparation), whole[:, 4:45])
    assert evaluation_image(jpeg, 64, preparation).shape == (64, 64, 3)


# Seeds


@pytest.mark.slow
@pytest.mark.parametrize("train_crop", ["random-resized", "random", "pad"])
def test_the_same_seed_makes_the_same_images(tmp_path, train_crop):
    write_directory(tmp_path, thumbnails())
    preparation = ImagePreparation(train_crop=train_crop, train_resize=(36, 60), lighting=0.1)
    data = ImageRecords(tmp_path, 32, 20, preparation)
    runs = [next(iter(data.train_batches(20, seed, 1, 2))) for seed in (5, 5, 6)]
    by_label = [images.numpy()[np.argsort(labels)] for images, labels in runs]
    np.testing.assert_array_equal(by_label[0], by_label[1])
    # Two seeds may shift an image equally.
    assert (np.abs(by_label[0] - by_label[2]).max(axis=(1, 2, 3)) > 0.1).mean() > 0.8
    assert by_label[0].shape == (20, 32, 32, 3)

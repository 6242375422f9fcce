"""JPEG bytes to image tensors, inside a tf.data pipeline, as an ``ImagePreparation`` asks for."""

import tensorflow as tf

from dfpkeras.data.preparation import ImagePreparation

# Principal components of the colours of ImageNet's training images (RGB scaled to 0..1), and the
# spread along each, as commonly used for Krizhevsky's colour noise.
_COLOUR_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_COLOUR_SPREAD = (0.2175, 0.0188, 0.0045)


def train_image(encoded, image_size, seed, preparation=ImagePreparation()):
    """Decodes the part of a JPEG that the training crop takes, resizes and augments it.

    Args:
        encoded: scalar string tensor, a JPEG of any size, grey or colour.
        image_size: side of the result.
        seed: int64 tensor of shape (2,); the same seed gives the same image.
        preparation: ``ImagePreparation``.

    Returns:
        float32 ``(image_size, image_size, 3)``, values 0..255; ``lighting`` may exceed that range.
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    if preparation.train_crop == "pad":
        square = evaluation_image(encoded, image_size, preparation)
        image = _pad_and_crop(square, preparation.pad, crop_seed)
    else:
        shape = tf.io.extract_jpeg_shape(encoded)
        window = _train_window(shape, image_size, crop_seed, preparation)
        image = _resize(_decode_to_shrink(encoded, window, image_size), image_size)
    if preparation.horizontal_flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    if preparation.lighting:
        image += _colour_noise(preparation.lighting, tf.random.fold_in(seed, 2))
    return image


def evaluation_image(encoded, image_size, preparation=ImagePreparation()):
    """Decodes the central square of a JPEG and resizes it.

    The square's side is a fraction of the image's shorter side, rounded to whole pixels, which is
    the same as resizing the shorter side and cutting out the centre.

    Args:
        encoded: scalar string tensor, a JPEG of any size, grey or colour.
        image_size: side of the result.
        preparation: ``ImagePreparation``.

    Returns:
        float32 ``(image_size, image_size, 3)``, values 0..255.
    """
    shape = tf.io.extract_jpeg_shape(encoded)[:2]
    shorter = tf.reduce_min(shape)
    fraction = preparation.evaluation_fraction(image_size)
    side = tf.minimum(image_size, shorter) if fraction is None else _scale(shorter, fraction)
    window = tf.concat([(shape - side) // 2, tf.stack([side, side])], axis=0)
    return _resize(_decode_window(encoded, window), image_size)


def normalize(image, preparation=ImagePreparation()):
    """Scales RGB values 0..255 to zero mean and unit variance (those of the preparation)."""
    return (image / 255.0 - tf.constant(preparation.mean)) / tf.constant(preparation.std)


def _train_window(shape, image_size, seed, preparation):
    """Returns y, x, height and width of the part that the crop takes, within ``shape``."""
    if preparation.train_crop == "random":
        return _random_square(shape[:2], image_size, seed, preparation.train_resize)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=[[[0.0, 0.0, 1.0, 1.0]]],
        seed=seed,
        min_object_covered=0.0,
        aspect_ratio_range=preparation.crop_aspect_ratio,
        area_range=preparation.crop_area,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def _random_square(shape, image_size, seed, train_resize):
    """Returns the window that is a random crop once the shorter side is resized."""
    size_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    low, high = train_resize
    resized = tf.random.stateless_uniform([], size_seed, low, high + 1, tf.int32)
    side = _scale(tf.reduce_min(shape), image_size / tf.cast(resized, tf.float32))
    places = tf.cast(shape - side + 1, tf.float32)
    begin = tf.cast(tf.random.stateless_uniform([2], place_seed) * places, tf.int32)
    return tf.concat([begin, tf.stack([side, side])], axis=0)


def _scale(side, fraction):
    return tf.maximum(tf.cast(tf.round(fraction * tf.cast(side, tf.float32)), tf.int32), 1)


def _pad_and_crop(image, pad, seed):
    padded = tf.pad(image, [(pad, pad), (pad, pad), (0, 0)])
    begin = tf.random.stateless_uniform([2], seed, 0, 2 * pad + 1, tf.int32)
    return tf.slice(padded, tf.concat([begin, [0]], axis=0), image.shape)


def _colour_noise(strength, seed):
    """Returns what to add to each channel, in units of 0..255."""
    along = tf.random.stateless_normal([3], seed, stddev=strength) * _COLOUR_SPREAD
    return 255.0 * tf.linalg.matvec(tf.constant(_COLOUR_COMPONENTS), along)


def _decode_to_shrink(encoded, window, image_size):
    """Decodes ``window`` as RGB, at 1/2 or 1/4 of its size if twice the image size is left.

    The decoder leaves out high frequencies that shrinking would remove anyway, and with them much
    of its work. Shrinking by less than two afterwards would leave visibly sharper images.
    """
    factor = tf.reduce_min(window[2:]) // image_size
    return tf.switch_case(
        tf.cast(factor >= 4, tf.int32) + tf.cast(factor >= 8, tf.int32),
        [lambda ratio=ratio: _decode_window(encoded, window, ratio) for ratio in (1, 2, 4)],
    )


def _decode_window(encoded, window, ratio=1):
    """Decodes ``window`` (y, x, height, width) of a JPEG as RGB, at 1/ratio of its size."""
    begin, end = _divide(window[:2], ratio), _divide(window[:2] + window[2:], ratio)
    window = tf.concat([begin, end - begin], axis=0)

    def decode_part():
        return tf.image.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio)

    def decode_whole():
        y, x, height, width = tf.unstack(window)
        return tf.io.decode_jpeg(encoded, 3, ratio)[y : y + height, x : x + width]

    # The decoder stops at the last row of the window and would not notice that the rest of the file
    # is missing. Only a file without its end marker takes the slow path, where it fails.
    ends_properly = tf.equal(tf.strings.substr(encoded, -2, 2), b"\xff\xd9")
    return tf.cond(ends_properly, decode_part, decode_whole)


def _divide(place, ratio):
    """Divides to the nearest integer; the last one is still within the image, rounded up."""
    return (place + ratio // 2) // ratio


def _resize(image, image_size):
    resized = tf.image.resize(image, (image_size, image_size), antialias=True)
    resized.set_shape((image_size, image_size, 3))
    return tf.clip_by_value(resized, 0.0, 255.0)

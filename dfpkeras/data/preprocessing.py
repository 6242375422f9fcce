"""JPEG bytes to image tensors, inside a tf.data pipeline.

Training: random-resized-crop and flip, as for GoogLeNet (Szegedy et al., "Going Deeper with
Convolutions", 2015, section 6). Evaluation: central crop.
"""

import tensorflow as tf

# Mean and standard deviation of the pixels of ImageNet (RGB, scaled to 0..1).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CROP_AREA = (0.08, 1.0)
CROP_ASPECT_RATIO = (3 / 4, 4 / 3)
CENTRAL_FRACTION = 0.875


def random_resized_crop(encoded, image_size, seed):
    """Decodes a random part of a JPEG, resizes it and flips it in one case of two.

    Args:
        encoded: scalar string tensor, a JPEG of any size, grey or colour.
        image_size: side of the result.
        seed: int64 tensor of shape (2,); the same seed makes the same crop.

    Returns:
        float32 ``(image_size, image_size, 3)``, values 0..255.
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        bounding_boxes=[[[0.0, 0.0, 1.0, 1.0]]],
        seed=crop_seed,
        min_object_covered=0.0,
        aspect_ratio_range=CROP_ASPECT_RATIO,
        area_range=CROP_AREA,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    image = _resize(_decode_window(encoded, window), image_size)
    return tf.image.stateless_random_flip_left_right(image, flip_seed)


def central_crop(encoded, image_size):
    """Decodes the central square of a JPEG and resizes it.

    The square's side is 0.875 of the image's shorter side, which is the same as resizing the
    shorter side to ``image_size / 0.875`` and cutting out the centre.

    Args:
        encoded: scalar string tensor, a JPEG of any size, grey or colour.
        image_size: side of the result.

    Returns:
        float32 ``(image_size, image_size, 3)``, values 0..255.
    """
    shape = tf.io.extract_jpeg_shape(encoded)[:2]
    shorter = tf.cast(tf.reduce_min(shape), tf.float32)
    side = tf.maximum(tf.cast(tf.round(CENTRAL_FRACTION * shorter), tf.int32), 1)
    window = tf.concat([(shape - side) // 2, tf.stack([side, side])], axis=0)
    return _resize(_decode_window(encoded, window), image_size)


def normalize(image):
    """Scales RGB values 0..255 to ImageNet's zero mean and unit variance."""
    return (image / 255.0 - tf.constant(MEAN)) / tf.constant(STD)


def _decode_window(encoded, window):
    """Decodes ``window`` (y, x, height, width) of a JPEG as RGB."""

    def decode_part():
        return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)

    def decode_whole():
        y, x, height, width = tf.unstack(window)
        return tf.io.decode_jpeg(encoded, channels=3)[y : y + height, x : x + width]

    # The decoder stops at the last row of the window and would not notice that the rest of the
    # file is missing. Only a file without its end marker takes the slow way, where it fails.
    ends_properly = tf.equal(tf.strings.substr(encoded, -2, 2), b"\xff\xd9")
    return tf.cond(ends_properly, decode_part, decode_whole)


def _resize(image, image_size):
    resized = tf.image.resize(image, (image_size, image_size), antialias=True)
    resized.set_shape((image_size, image_size, 3))
    return tf.clip_by_value(resized, 0.0, 255.0)

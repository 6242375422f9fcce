"""An image file to a JPEG that the training can decode."""

import contextlib
import io
import warnings

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from dfpkeras.data.dataset import DataError

CMYK = "CMYK"
OTHER_FORMAT = "other format"
_QUALITY = 95
_JPEG_START = b"\xff\xd8\xff"
# Modes whose values 0..255 Pillow brings to RGB; those with 16 bits a channel it would clip.
_CONVERTIBLE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_jpeg(path):
    """Reads an image file; what is not an RGB or grey JPEG is re-encoded as one (quality 95).

    Args:
        path: of a file with an image in any format that Pillow knows, whatever its name says.

    Returns:
        The JPEG as bytes, its height and width, and what was repaired: None, ``CMYK`` (four
        components, also YCCK) or ``OTHER_FORMAT`` (such as PNG).

    Raises:
        DataError: the file is not an image, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    if not content:
        raise DataError("empty file")
    try:
        repair = _find_repair(content)
        encoded = _encode_as_rgb(content) if repair else content
        height, width, _ = tf.io.decode_jpeg(encoded, channels=3).shape
    except tf.errors.InvalidArgumentError as error:
        raise DataError("truncated or damaged JPEG") from error
    return encoded, height, width, repair


def _find_repair(content):
    if not content.startswith(_JPEG_START):
        return OTHER_FORMAT
    return CMYK if tf.io.extract_jpeg_shape(content)[2] == 4 else None


def _encode_as_rgb(content):
    buffer = io.BytesIO()
    with _pillow_errors():
        image = Image.open(io.BytesIO(content))
        image.load()
        if image.mode in _CONVERTIBLE_MODES:
            image.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    if not buffer.getvalue():
        raise DataError(f"{image.format} of mode {image.mode}, which is not supported")
    return buffer.getvalue()


@contextlib.contextmanager
def _pillow_errors():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    # Pillow's decoders raise whatever damaged input leads them to.
    except Exception as error:
        raise DataError(f"damaged image ({error or type(error).__name__})") from error

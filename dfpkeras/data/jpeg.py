"""Whether a JPEG is complete, and what its header says."""

import io
from typing import NamedTuple

import simplejpeg
import tensorflow as tf
from PIL import ExifTags, Image

from dfpkeras.data.dataset import DataError

START = b"\xff\xd8\xff"
# What TensorFlow's decoder accepts, as RGB.
_MAX_PIXELS = 2**29 // 3


class JpegHeader(NamedTuple):
    """Size in pixels as stored, whether it has four colours, and EXIF's orientation, 1 to 8."""

    height: int
    width: int
    is_cmyk: bool
    orientation: int


def check_jpeg(encoded):
    """Decodes a JPEG and treats warnings of libjpeg as errors.

    TensorFlow's and Pillow's decoders silently fill up what is missing within the image.

    Args:
        encoded: bytes.

    Returns:
        ``JpegHeader``.

    Raises:
        DataError: it is damaged, or TensorFlow cannot decode it.
    """
    header = _read_header(encoded)
    if header.height * header.width > _MAX_PIXELS:
        raise DataError(
            f"JPEG of {header.width}x{header.height} pixels, which is too large to be decoded"
        )
    try:
        # An eighth of the size: all data are read, but few pixels are computed.
        simplejpeg.decode_jpeg(encoded, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if not _has_unusual_sampling(error):
            raise DataError(f"truncated or damaged JPEG ({error})") from error
    try:
        tf.io.decode_jpeg(encoded, channels=3, ratio=8)
    except tf.errors.InvalidArgumentError as error:
        raise DataError("truncated or damaged JPEG, or one of a rare kind") from error
    return header


def find_orientation(image):
    """Returns the EXIF orientation of a Pillow image, 1 to 8; 1, upright, if it says nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    # Pillow's readers raise whatever damaged input leads them to.
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _read_header(encoded):
    try:
        image = Image.open(io.BytesIO(encoded), formats=["JPEG"])
    except Image.DecompressionBombError as error:
        raise DataError(f"JPEG that is too large to be decoded ({error})") from error
    except Exception as error:
        raise DataError("truncated or damaged JPEG (its header cannot be read)") from error
    width, height = image.size
    return JpegHeader(height, width, image.mode == "CMYK", find_orientation(image))


def _has_unusual_sampling(error):
    """Tells whether TurboJPEG refuses the chroma subsampling; TensorFlow accepts every one.

    libjpeg's warnings are not available for such an image.
    """
    return "subsampling" in str(error)

"""From an image file to an upright JPEG that training can decode."""

import contextlib
import io

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dfpkeras.data import jpeg
from dfpkeras.data.dataset import DataError

CMYK = "CMYK"
OTHER_FORMAT = "other format"
TURNED = "turned upright as EXIF says"
_QUALITY = 95
_MAX_SIDE = 65500
# Modes with values 0..255, which Pillow converts to RGB; it would clip those with 16 bits.
_CONVERTIBLE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_jpeg(path):
    """Reads an image file; what is not an upright RGB or grey JPEG is re-encoded as one.

    It is encoded with quality 95 and without chroma subsampling. The first picture of an animation
    is taken; transparency is dropped.

    Args:
        path: path of an image file in any format that Pillow knows, whatever its name.

    Returns:
        The JPEG as bytes, its height and width, and a tuple of what was repaired: ``CMYK`` (four
        components, also YCCK), ``OTHER_FORMAT`` (such as PNG), ``TURNED`` (EXIF orientation).

    Raises:
        DataError: the file is not an image, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    if not content:
        raise DataError("empty file")
    if not content.startswith(jpeg.START):
        return _encode_anew(content, [OTHER_FORMAT])
    header = jpeg.check_jpeg(content)
    if header.is_cmyk:
        return _encode_anew(content, [CMYK])
    if header.orientation != 1:
        return _encode_anew(content, [])
    return content, header.height, header.width, ()


def _encode_anew(content, repairs):
    """Returns what ``read_jpeg`` returns."""
    buffer = io.BytesIO()
    with _pillow_errors():
        image = Image.open(io.BytesIO(content))
        _require_convertible(image)
        orientation = jpeg.find_orientation(image)
        image = image.convert("RGB")
        if orientation != 1:
            _turn_upright(image, orientation)
            repairs = [*repairs, TURNED]
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue(), image.height, image.width, tuple(repairs)


def _turn_upright(image, orientation):
    # Pillow rewrites all of EXIF, which fails if another part of it is damaged.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.info = {"exif": exif.tobytes()}
    ImageOps.exif_transpose(image, in_place=True)


def _require_convertible(image):
    if image.mode not in _CONVERTIBLE_MODES:
        raise DataError(f"{image.format} of mode {image.mode}, which is not supported")
    if max(image.size) > _MAX_SIDE:
        raise DataError(f"image of {image.width}x{image.height} pixels, too long for a JPEG")


@contextlib.contextmanager
def _pillow_errors():
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"too large to be decoded ({error})") from error
    # Pillow's decoders raise whatever damaged input leads them to.
    except Exception as error:
        raise DataError(f"damaged image ({error or type(error).__name__})") from error

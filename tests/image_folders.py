"""Class folders with good and bad images, to be converted to TFRecords."""

import io

import numpy as np
from PIL import Image

SYNSETS = ("n01", "n02é", "n03", "n04")
# n03 has no image.
FILLED = (SYNSETS[0], SYNSETS[1], SYNSETS[3])


def picture(number, mode="RGB", size=(12, 9)):
    """Returns a Pillow image of random pixels, smooth enough for JPEG."""
    noise = np.random.default_rng(number).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    image = Image.merge("RGB", [Image.fromarray(channel) for channel in noise])
    return image.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(image, image_format="JPEG"):
    """Returns the bytes of a Pillow image."""
    buffer = io.BytesIO()
    options = {"quality": 95} if image_format == "JPEG" else {}
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def write_folders(directory, images_per_class=4):
    """Writes ``train`` and ``validation`` class folders of good JPEGs; returns all their paths.

    Every image has a different size within its split.
    """
    paths = []
    for split, count in (("train", images_per_class), ("validation", 2)):
        for synset in SYNSETS:
            (directory / split / synset).mkdir(parents=True)
        for number in range(count * len(FILLED)):
            synset = FILLED[number % len(FILLED)]
            path = directory / split / synset / f"{synset} {number}.JPEG"
            path.write_bytes(encode(picture(number, size=(20 + number, 15))))
            paths.append(path)
    return paths

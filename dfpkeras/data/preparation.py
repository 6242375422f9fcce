"""How images are cropped, resized, augmented and normalised, as values a recipe can hold."""

import dataclasses

# Mean and standard deviation of the pixels of ImageNet (RGB, scaled to 0..1).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TRAIN_CROPS = ("random-resized", "random", "pad")
AUTO = "auto"
_AUTO_FRACTION = 0.875


@dataclasses.dataclass(frozen=True)
class ImagePreparation:
    """What happens to an image before training and before evaluation.

    Training takes one of three crops:

    ``"random-resized"``
        a part of random area, shape and place, resized to the image size (Szegedy et al., "Going
        Deeper with Convolutions", 2015, section 6; also usual for ResNet).
    ``"random"``
        the image resized so that its shorter side has a random length, and a square of the image
        size cut out at a random place (Krizhevsky et al. 2012, section 4.1, with a fixed length;
        Simonyan and Zisserman 2015, section 3.1, scale jitter).
    ``"pad"``
        the evaluation's square, with black pixels on each side, and a square of the image size
        cut out at a random place (He et al. 2015, section 4.2, for CIFAR-10).

    Attributes:
        train_crop: one of the above.
        train_resize: lowest and highest length of the shorter side, in pixels, both included; for
            the crop "random".
        crop_area: lowest and highest part of the image's area; for the crop "random-resized".
        crop_aspect_ratio: lowest and highest width divided by height; likewise.
        pad: black pixels on each side; for the crop "pad".
        horizontal_flip: mirror half of the training images, chosen at random.
        lighting: standard deviation of the noise along the principal components of ImageNet's
            colours (Krizhevsky et al. 2012, section 4.1, which uses 0.1); 0 for none.
        evaluation_resize: length of the shorter side, in pixels, before evaluation cuts out the
            central square of the image size; "auto" for 8/7 of the image size (256 for 224);
            None to cut out without resizing (an image that is too small is still enlarged).
        mean, std: mean and deviation of the pixels scaled to 0..1, for each of the three channels.

    Raises:
        ValueError: a field has an invalid value; the message names it.
    """

    train_crop: str = "random-resized"
    train_resize: tuple[int, int] = (256, 256)
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 4
    horizontal_flip: bool = True
    lighting: float = 0.0
    evaluation_resize: int | str | None = AUTO
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self):
        for field in ("train_resize", "crop_area", "crop_aspect_ratio", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        self._check_ranges()
        self._require("train_crop", self.train_crop in TRAIN_CROPS, f"one of {TRAIN_CROPS}")
        self._require("crop_area", self.crop_area[1] <= 1, "at most 1")
        self._require("pad", self.pad >= 0, "at least 0")
        self._require("lighting", self.lighting >= 0, "at least 0")
        self._require("mean", len(self.mean) == 3, "three numbers")
        self._require("std", len(self.std) == 3 and min(self.std) > 0, "three numbers above 0")
        size = self.evaluation_resize
        is_size = isinstance(size, int) and size > 0
        self._require(
            "evaluation_resize", size in (AUTO, None) or is_size, "a number of pixels, auto or none"
        )

    def check_image_size(self, image_size):
        """Raises a ``ValueError`` if images of this size cannot be cut out."""
        needed = f"at least the image size, {image_size}"
        if self.train_crop == "random":
            self._require("train_resize", self.train_resize[0] >= image_size, needed)
        if isinstance(self.evaluation_resize, int):
            self._require("evaluation_resize", self.evaluation_resize >= image_size, needed)

    def evaluation_fraction(self, image_size):
        """Returns the central square's side divided by the shorter side; None without resizing."""
        if self.evaluation_resize == AUTO:
            return _AUTO_FRACTION
        return self.evaluation_resize and image_size / self.evaluation_resize

    def _check_ranges(self):
        for field in ("train_resize", "crop_area", "crop_aspect_ratio"):
            values = getattr(self, field)
            ordered = len(values) == 2 and 0 < values[0] <= values[1]
            self._require(field, ordered, "two numbers above 0, the lower one first")

    def _require(self, field, fulfilled, needed):
        if not fulfilled:
            raise ValueError(f"{field} is {getattr(self, field)!r}, but must be {needed}")

"""Hyper-parameters of a training run."""

import argparse
import dataclasses

from dfpkeras.cli import option_values
from dfpkeras.data.preparation import ImagePreparation


def _setting(default, group, parse, help_text, **details):
    """A field of ``TrainConfig``.

    Args:
        default: value without recipe and option; a tuple makes it a field of several values.
        group: heading of its option in the help.
        parse: function from text to one value, which raises an ``ArgumentTypeError``.
        help_text: help of its option.
        details: ``length``, how many values a tuple must have, if that is fixed; ``scales_with``,
            the field in whose proportion a recipe's value changes; ``only_with``, values of other
            fields, one of which this field needs to have an effect.
    """
    metadata = {"group": group, "parse": parse, "help": help_text, **details}
    return dataclasses.field(default=default, metadata=metadata)


#: What --compare compares.
POLICIES = ("dfp16", "float32")
TASK, LENGTH, LEARNING, IMAGES = "model and data", "length", "learning", "images"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run's result depends on; a run directory's config.json holds it.

    The meaning of a field is documented once, in the help text of its option. A recipe
    (``dfpkeras.recipes``) gives values to most of them. The learning rate's highest value is
    ``learning_rate * batch_size / base_batch_size``.
    """

    policies: tuple[str, ...] = _setting(
        ("dfp16",), TASK, option_values.dtype_policy, "dtype policies, one after another"
    )
    model: str = _setting(
        "resnet-small",
        TASK,
        str,
        "resnet-small, resnet20, alexnet, googlenet, a name in keras.applications, ...",
    )
    recipe: str = _setting(
        "digits", TASK, str, "name of a recipe, or a TOML file of your own (default: the model's)"
    )
    data: str | None = _setting(
        None,
        TASK,
        str,
        "directory of TFRecords train-* and validation-*, with the features image/encoded (JPEG) "
        "and image/class/label (from 1)",
    )
    classes: int = _setting(10, TASK, option_values.positive_int, "number of classes in the data")
    image_size: int = _setting(
        28, TASK, option_values.positive_int, "side of the images, in pixels"
    )
    epochs: int = _setting(
        6,
        LENGTH,
        option_values.positive_int,
        "passes over the training images; the recipe's schedule stretches or shrinks with it",
    )
    steps_per_epoch: int | None = _setting(
        None,
        LENGTH,
        option_values.positive_int,
        "end each epoch after this many steps (default: when all images have been seen)",
    )
    batch_size: int = _setting(32, LENGTH, option_values.positive_int, "images in a training step")
    seed: int = _setting(
        0, LENGTH, option_values.seed, "seed of weights, data order and augmentation"
    )
    learning_rate: float = _setting(
        0.1,
        LEARNING,
        option_values.positive_float,
        "peak learning rate for batches of --base-batch-size; scaled in proportion for others",
    )
    base_batch_size: int = _setting(
        32, LEARNING, option_values.positive_int, "batch size that the learning rate is meant for"
    )
    warmup_epochs: float = _setting(
        0.6,
        LEARNING,
        option_values.non_negative_float,
        "epochs in which the learning rate rises linearly from 0",
        scales_with="epochs",
    )
    schedule: str = _setting(
        "cosine",
        LEARNING,
        option_values.one_of("cosine", "steps", "exponential"),
        "how the learning rate falls after that: cosine, to 0; steps, at --decay-epochs; "
        "exponential, every --decay-every-epochs",
    )
    decay_epochs: tuple[float, ...] = _setting(
        (),
        LEARNING,
        option_values.positive_float,
        "steps: epochs after which the learning rate is multiplied by --decay-factor",
        scales_with="epochs",
        only_with={"schedule": ("steps",)},
    )
    decay_every_epochs: float = _setting(
        1.0,
        LEARNING,
        option_values.positive_float,
        "exponential: epochs between two multiplications by --decay-factor",
        scales_with="epochs",
        only_with={"schedule": ("exponential",)},
    )
    decay_factor: float = _setting(
        0.1,
        LEARNING,
        option_values.positive_float,
        "steps, exponential: factor of the learning rate",
        only_with={"schedule": ("steps", "exponential")},
    )
    momentum: float = _setting(
        0.9, LEARNING, option_values.fraction, "momentum of stochastic gradient descent"
    )
    nesterov: bool = _setting(True, LEARNING, option_values.boolean, "Nesterov's momentum")
    weight_decay: float = _setting(
        0.0,
        LEARNING,
        option_values.non_negative_float,
        "factor of the L2 term: this times the weight is added to its gradient",
    )
    weight_decay_exempt: tuple[str, ...] = _setting(
        (),
        LEARNING,
        str,
        "names of variables that do not decay, such as bias, gamma, beta",
    )
    label_smoothing: float = _setting(
        0.0, LEARNING, option_values.fraction, "share of the target that is spread over all classes"
    )
    auxiliary_weights: tuple[float, ...] = _setting(
        (),
        LEARNING,
        option_values.positive_float,
        "weights of the losses of a model's auxiliary heads",
    )
    train_crop: str = _setting(
        "random-resized",
        IMAGES,
        option_values.one_of("random-resized", "random", "pad"),
        "random-resized, a part of random size and shape; random, a square cut out of the "
        "image resized to --train-resize; pad, a square cut out of the image padded by --pad",
    )
    train_resize: tuple[int, int] = _setting(
        (256, 256),
        IMAGES,
        option_values.positive_int,
        "random: lowest and highest length of the shorter side, in pixels",
        length=2,
        scales_with="image_size",
        only_with={"train_crop": ("random",)},
    )
    crop_area: tuple[float, float] = _setting(
        (0.08, 1.0),
        IMAGES,
        option_values.positive_float,
        "random-resized: lowest and highest part of the image's area",
        length=2,
        only_with={"train_crop": ("random-resized",)},
    )
    crop_aspect_ratio: tuple[float, float] = _setting(
        (3 / 4, 4 / 3),
        IMAGES,
        option_values.positive_float,
        "random-resized: lowest and highest width divided by height",
        length=2,
        only_with={"train_crop": ("random-resized",)},
    )
    pad: int = _setting(
        4,
        IMAGES,
        option_values.non_negative_int,
        "pad: black pixels on each side",
        scales_with="image_size",
        only_with={"train_crop": ("pad",)},
    )
    horizontal_flip: bool = _setting(
        True, IMAGES, option_values.boolean, "mirror half of the training images, chosen at random"
    )
    lighting: float = _setting(
        0.0,
        IMAGES,
        option_values.non_negative_float,
        "standard deviation of AlexNet's noise along the principal components of colour",
    )
    evaluation_resize: int | str = _setting(
        "auto",
        IMAGES,
        option_values.pixels_or_auto,
        "length of the shorter side, in pixels, before evaluation cuts out the central square; "
        "auto for 8/7 of the image size",
        scales_with="image_size",
    )
    mean: tuple[float, ...] = _setting(
        (0.485, 0.456, 0.406),
        IMAGES,
        option_values.non_negative_float,
        "mean of the pixels of each channel, scaled to 0..1; subtracted",
        length=3,
    )
    std: tuple[float, ...] = _setting(
        (0.229, 0.224, 0.225),
        IMAGES,
        option_values.positive_float,
        "standard deviation of these pixels; divided by",
        length=3,
    )

    def as_dict(self):
        """Returns the fields that have an effect, as a dict that JSON can hold."""
        fields = {name: getattr(self, name) for name in SETTINGS if self._has_effect(name)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    def _has_effect(self, name):
        details = SETTINGS[name].metadata
        if details["group"] == IMAGES and self.data is None:
            return False
        needed = details.get("only_with", {})
        return all(getattr(self, other) in values for other, values in needed.items())

    def preparation(self):
        """Returns the settings for images as the data pipeline takes them.

        Raises:
            ValueError: two of them do not go together; the message names them.
        """
        return ImagePreparation(
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(ImagePreparation)
            }
        )

    @classmethod
    def from_dict(cls, fields):
        """The inverse of ``as_dict``.

        Raises:
            ValueError: a field does not exist, or cannot have its value.
        """
        return cls(**{name: _parse_or_none(name, value) for name, value in fields.items()})


SETTINGS = {field.name: field for field in dataclasses.fields(TrainConfig)}


def takes_several(field):
    """Tells whether the values of a field are tuples."""
    return isinstance(field.default, tuple)


def _parse_or_none(name, value):
    if value is None and name in SETTINGS and SETTINGS[name].default is None:
        return None
    return parse_setting(name, value)


def parse_setting(name, value):
    """Checks a value that was read from a recipe.

    Args:
        name: name of a field of ``TrainConfig``.
        value: bool, int, float, str, or a list of these.

    Returns:
        The value as ``TrainConfig`` holds it.

    Raises:
        ValueError: there is no such field, or it cannot have this value; the message names both.
    """
    if name not in SETTINGS:
        raise ValueError(f"{name}: there is no such setting")
    field = SETTINGS[name]
    length = field.metadata.get("length")
    if isinstance(value, list) != takes_several(field) or (length and len(value) != length):
        needed = f"a list of {length or 'several'} values" if takes_several(field) else "one value"
        raise ValueError(f"{name}: must be {needed}, got {value}")
    try:
        if takes_several(field):
            return tuple(field.metadata["parse"](str(item)) for item in value)
        return field.metadata["parse"](str(value))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{name}: {error}") from error

"""What is measured: a model, a batch size, and training or inference."""

import dataclasses
import math

from dfpkeras.models import build_model, find_function, find_name

#: The networks of ``--network all``. Every other name that `build_model` knows works, too.
NETWORKS = ("resnet50", "vgg16", "inceptionv3", "mobilenetv2", "densenet121")

CLASSES = 1000

_IMAGE_SIZE = 224
# Minimum number of images for ``predict``. What it does before and after its batches, some 30 ms,
# would otherwise hide half of the difference at batch 1.
_PREDICTED_IMAGES = 16
# Networks whose paper uses another image size.
_IMAGE_SIZES = {"inceptionv3": 299, "xception": 299, "inceptionresnetv2": 299}


class ModelError(Exception):
    """The requested model is not available; the message is all the user needs to see."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        network: name of a model for `build_model`, or None.
        model: "module:function" of a function without arguments that returns a `keras.Model`, or
            None. One of `network` and `model` is given.
        batch_size: images in a batch.
        image_size: side of the images in pixels, None for the network's own; of a function's model,
            what its inputs leave open.
        inference: whether to measure ``predict`` instead of ``train_on_batch``.
    """

    network: str | None
    model: str | None
    batch_size: int
    image_size: int | None = None
    inference: bool = False

    @property
    def name(self):
        """The network, or where the model comes from."""
        return self.network or self.model

    @property
    def label(self):
        """What tables and charts call it."""
        return f"{self.name}, {'predict' if self.inference else 'train'}, batch {self.batch_size}"

    @property
    def images(self):
        """Images in a step: one batch, or what one call of ``predict`` gets."""
        if not self.inference:
            return self.batch_size
        return math.ceil(_PREDICTED_IMAGES / self.batch_size) * self.batch_size

    def build(self):
        """Builds the model under the current dtype policy, with random weights.

        Returns:
            A `keras.Model`: a network's outputs are logits of `CLASSES` classes.

        Raises:
            ModelError: there is no such model, or it cannot take such images.
        """
        return _call(self.model) if self.model else self._build_network()

    def input_shapes(self, model):
        """Shapes of the arrays that the model takes.

        Raises:
            ModelError: the model leaves a size open and there is no `image_size`.
        """
        return [self._input_shape(tensor) for tensor in model.inputs]

    def _build_network(self):
        size = self.image_size or _IMAGE_SIZES.get(self.network.lower(), _IMAGE_SIZE)
        try:
            return build_model(self.network, (size, size, 3), CLASSES)
        except ValueError as error:
            raise ModelError(f"--network {self.network}: {error}") from error

    def _input_shape(self, tensor):
        sizes = [size or self.image_size for size in tensor.shape[1:]]
        if None in sizes:
            raise ModelError(
                f"--model {self.model}: expected inputs of known sizes, or --image-size for the "
                f"sizes that are open; got an input of shape {tuple(tensor.shape)}"
            )
        return self.images, *sizes


def is_network(name):
    """Whether `build_model` knows a model of that name."""
    return find_name(name) is not None


def _call(path):
    import keras

    try:
        found = find_function(path)
    except ValueError as error:
        raise ModelError(f"--model {error}") from error
    model = found()
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"--model {path}: expected a function that returns a keras.Model; it returned "
            f"{type(model).__name__}"
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ModelError(
            f"--model {path}: expected a model whose inputs are known, such as a functional or "
            "sequential one with a keras.Input"
        )
    return model

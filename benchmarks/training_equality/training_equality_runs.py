"""One training run, and the loss of each of its steps."""

import keras
import numpy as np

import dfpkeras  # noqa: F401 (registers the policy)
from dfpkeras.models import resnet_small

POLICIES = ("float32", "dfp16")
IMAGE_SIZE, BATCH_SIZE = 32, 64
LEARNING_RATE, MOMENTUM = 0.05, 0.9


def train(data, policy, seed, steps):
    """Trains ResNet-20 from fresh weights.

    Args:
        data: directory of class folders.
        policy: "float32" or "dfp16".
        seed: int, seed of the weights and the order of the images.
        steps: int.

    Returns:
        float64 array (steps,), the loss of each batch before its update.

    Raises:
        ValueError: there are fewer images than the steps need.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    batches, num_classes = read_batches(data, seed, steps)
    model = resnet_small((IMAGE_SIZE, IMAGE_SIZE, 3), num_classes, blocks_per_stage=3)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, MOMENTUM, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = BatchLosses()
    model.fit(batches, shuffle=False, verbose=0, callbacks=[losses])
    return np.array(losses.values)


def read_batches(data, seed, steps):
    """Batches of images, scaled to -1..1, and the number of classes."""
    images = keras.utils.image_dataset_from_directory(
        data, image_size=(IMAGE_SIZE, IMAGE_SIZE), batch_size=BATCH_SIZE, seed=seed, verbose=False
    )
    if len(images.file_paths) < steps * BATCH_SIZE:
        raise ValueError(
            f"{data}: {steps} steps need {steps * BATCH_SIZE} images in folders, one for each "
            f"class, got {len(images.file_paths)}"
        )
    scaled = images.take(steps).map(lambda x, label: (x / 127.5 - 1.0, label))
    return scaled.prefetch(4), len(images.class_names)


class BatchLosses(keras.callbacks.Callback):
    """Collects the loss of each batch, not the running mean of the epoch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])

"""Trains networks and saves what their convolutions and dense layers multiply."""

import itertools
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from bit_budget_tensors import LayerTensors, save_layer, snapshot_directory

import dfpkeras  # noqa: F401 (registers the policy)
from dfpkeras.data import preprocessing
from dfpkeras.data.tfrecords import ImageRecords
from dfpkeras.models import resnet_small

SEED = 0
MOMENTUM = 0.9
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Steps of ResNet-50 at 64x64, between its first and its last ones at 224x224.
RESNET50_STEPS, RESNET50_LAST_STEPS = 150, 2


def capture_all(data, num_classes, steps, work):
    """Trains three networks under dfp16 from fresh weights and saves their tensors.

    ResNet-20 and a VGG-like network train on 32x32 images in batches of 64, and are captured after
    the first step, a quarter of the steps and all of them. ResNet-50 is captured at 224x224 in
    batches of 8: after its first step, and after 150 steps of 32 images at 64x64 and two more at
    224x224.

    Args:
        data: directory of TFRecords (``train-*``, ``validation-*``) or of class folders.
        num_classes: int, the classes of the TFRecords; ignored for class folders.
        steps: int, training steps of the two small networks.
        work: directory to write to.

    Raises:
        FileExistsError: ``work`` already holds captured tensors of such a network.
        ValueError: there are fewer images than a batch needs.
    """
    keras.config.set_dtype_policy("dfp16(small_layers=int16)")
    small = ImageSource(data, 32, 64, num_classes)
    capture_small("resnet20", resnet20, small, steps, work)
    capture_small("vgg_small", vgg_small, small, steps, work)
    sources = ImageSource(data, 224, 8, num_classes), ImageSource(data, 64, 32, num_classes)
    capture_resnet50(*sources, work)


def capture_small(name, build, source, steps, work):
    """Trains a small network and captures it at three points.

    Args:
        name: str, name of the network.
        build: function from the source to a `keras.Model` from images to logits.
        source: `ImageSource`.
        steps: int.
        work: directory to write to.
    """
    training = CapturedTraining(name, work)
    model = compiled(build, source, learning_rate=0.05)
    batches, taken = iter(source.batches(steps)), 0
    for step in sorted({1, max(1, steps // 4), steps}):
        training.train(model, itertools.islice(batches, step - taken))
        training.snapshot(model)
        taken = step
    training.save_summary(source)


def capture_resnet50(source, small_source, work):
    """Trains ResNet-50, mostly at a smaller image size, and captures it at two points.

    Args:
        source: `ImageSource` of the images to capture with.
        small_source: `ImageSource` of the images to train with in between.
        work: directory to write to.
    """
    training = CapturedTraining("resnet50", work)
    model = compiled(resnet50, source, learning_rate=0.002)
    training.train(model, source.batches(1))
    training.snapshot(model)
    small_model = compiled(resnet50, small_source, learning_rate=0.01)
    small_model.set_weights(model.get_weights())
    training.train(small_model, small_source.batches(RESNET50_STEPS))
    model.set_weights(small_model.get_weights())
    training.train(model, source.batches(RESNET50_LAST_STEPS))
    training.snapshot(model)
    training.save_summary(source)


class ImageSource:
    """Batches of training images from a directory.

    Args:
        data, num_classes: see `capture_all`.
        image_size: int, side of the images in the batches.
        batch_size: int.

    Attributes:
        num_classes: int.
        image_shape: (height, width, 3).
        batch_size: int.
    """

    def __init__(self, data, image_size, batch_size, num_classes):
        self.image_shape = (image_size, image_size, 3)
        self.batch_size = batch_size
        if any(Path(data).glob("train-*")):
            records = ImageRecords(data, image_size, num_classes)
            self.num_classes = num_classes
            self._epochs = lambda count: records.train_batches(batch_size, SEED, 0, count)
        else:
            folders = keras.utils.image_dataset_from_directory(
                data,
                image_size=self.image_shape[:2],
                batch_size=batch_size,
                seed=SEED,
                verbose=False,
            )
            self.num_classes = len(folders.class_names)
            self._epochs = lambda count: folders.repeat(count).map(_normalize)

    def batches(self, count):
        """Yields `count` whole batches of normalised images and labels, as tensors."""
        # An epoch has at least one whole batch.
        whole = self._epochs(count).filter(lambda images, _: len(images) == self.batch_size)
        return whole.take(count)


def _normalize(images, labels):
    return preprocessing.normalize(images), labels


def resnet20(source):
    """The 20-layer network of He et al. 2015 for CIFAR, with 1x1 convolutions as shortcuts."""
    return resnet_small(source.image_shape, source.num_classes, width=16, blocks_per_stage=3)


def resnet50(source):
    """ResNet-50 of keras.applications, without its softmax."""
    return keras.applications.ResNet50(
        weights=None,
        input_shape=source.image_shape,
        classes=source.num_classes,
        classifier_activation=None,
    )


def vgg_small(source):
    """Pairs of 3x3 convolutions with batch norm, pooling after each, and two dense layers."""
    inputs = x = keras.Input(source.image_shape)
    for filters in (64, 64, "pool", 128, 128, "pool", 256, 256, "pool"):
        if filters == "pool":
            x = keras.layers.MaxPooling2D()(x)
        else:
            convolution = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)
            x = _normalized_relu(convolution(x))
    hidden = keras.layers.Dense(256, use_bias=False)(keras.layers.Flatten()(x))
    logits = keras.layers.Dense(source.num_classes)(_normalized_relu(hidden))
    return keras.Model(inputs, logits)


def _normalized_relu(x):
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))


def compiled(build, source, learning_rate):
    """Builds a network with fresh weights, the same in every run, to be trained with SGD."""
    keras.utils.set_random_seed(SEED)
    model = build(source)
    model.compile(keras.optimizers.SGD(learning_rate, MOMENTUM), LOSS, metrics=["accuracy"])
    return model


class CapturedTraining:
    """The training of one network, and the directory its tensors go to.

    Args:
        name: str, name of the network.
        work: directory to make a directory of that name in.
    """

    def __init__(self, name, work):
        self._name, self._work = name, Path(work)
        (self._work / name).mkdir(parents=True)
        self._history = []
        self._last_batch = None

    def train(self, model, batches):
        """Takes a step with each batch."""
        for batch in batches:
            self._history.append(model.train_on_batch(*batch))
            model.reset_metrics()
            self._last_batch = batch

    def snapshot(self, model):
        """Saves the tensors of every layer for the batch of the last step."""
        if self._last_batch is None:
            raise ValueError("there are fewer images than a batch needs")
        step = len(self._history)
        directory = snapshot_directory(self._work, self._name, step)
        directory.mkdir()
        for index, layer in enumerate(layer_tensors(model, *self._last_batch)):
            save_layer(layer, directory, index)
        print(f"{self._name}: {step} steps, loss {self._history[-1][0]:.3f}", flush=True)

    def save_summary(self, source):
        """Saves what was trained, with the mean loss and accuracy of the last 50 steps."""
        loss, accuracy = np.mean(self._history[-50:], axis=0)
        summary = {
            "image_size": source.image_shape[0],
            "batch_size": source.batch_size,
            "steps": len(self._history),
            "loss": round(float(loss), 3),
            "accuracy": round(float(accuracy), 3),
        }
        (self._work / self._name / "training.json").write_text(json.dumps(summary))


def layer_tensors(model, images, labels):
    """Yields the `LayerTensors` of every convolution and dense layer, for one batch.

    The gradients are those that reach the layers when the model computes under its own policy.

    Args:
        model: `keras.Model` from images to logits.
        images: float32 (batch, height, width, 3).
        labels: integer (batch,).

    Raises:
        ValueError: a layer has an `activation`, which hides the gradient of its product.
    """
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    inputs, outputs = [layer.input for layer in layers], [layer.output for layer in layers]
    probe = keras.Model(model.input, [inputs, outputs, model.output])
    with tf.GradientTape() as tape:
        x, y, logits = probe(images, training=True)
        loss = LOSS(labels, logits)
    gradients = tape.gradient(loss, y)
    for layer, layer_input, dy in zip(layers, x, gradients, strict=True):
        arrays = layer_input.numpy(), layer.kernel.numpy(), dy.numpy()
        yield _tensors_of(layer, *arrays, is_first=layer is layers[0])


def _tensors_of(layer, x, w, dy, is_first):
    if layer.activation is not keras.activations.linear:
        raise ValueError(f"{layer.name}: the gradient before its activation cannot be captured")
    if isinstance(layer, keras.layers.Dense):
        x, w, dy = x[:, None, None], w[None, None], dy[:, None, None]
        return LayerTensors(layer.name, x, w, dy, 1, "valid", is_first)
    return LayerTensors(layer.name, x, w, dy, layer.strides[0], layer.padding, is_first)

"""A step as Keras runs it."""

import keras

from dfpkeras.benchmark.step.batch import make_batch
from dfpkeras.benchmark.step.case import CLASSES

LEARNING_RATE, MOMENTUM = 0.01, 0.9


class KerasStep:
    """``train_on_batch`` or ``predict`` of a model, compiled with SGD and momentum.

    Args:
        case: `Case`.
        model: the case's `keras.Model`. Networks are trained as classifiers; targets of any other
            model are random numbers, and its loss is the mean squared error.
    """

    implementation = "Keras"

    def __init__(self, case, model):
        self.model = model
        inputs, targets = batch_for(case, model)
        self._inputs, self._targets = _unpacked(inputs), _unpacked(targets)
        self._predicted = _batches(self._inputs, case.batch_size) if case.inference else None
        if case.network:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        else:
            loss = keras.losses.MeanSquaredError()
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
        model.compile(optimizer, _unpacked([loss] * len(targets)))

    def run(self):
        """Runs one step and waits for its result."""
        if self._predicted is not None:
            return self.model.predict(**self._predicted, verbose=0)
        return self.model.train_on_batch(self._inputs, self._targets)


def batch_for(case, model):
    """Inputs and targets of a `KerasStep`, as `make_batch` returns them."""
    return make_batch(
        case.input_shapes(model),
        [tensor.dtype for tensor in model.inputs],
        [tensor.shape for tensor in model.outputs],
        CLASSES if case.network else None,
    )


def _batches(inputs, batch_size):
    """What ``predict`` gets, and how.

    From arrays, TensorFlow makes a dataset whose automatic tuning it waits for at the end: until
    0.31, 0.63, 1.27, ... s have passed since the beginning (seen with TensorFlow 2.21). A dataset
    that is not tuned ends when it is done.
    """
    if keras.backend.backend() != "tensorflow":
        return {"x": inputs, "batch_size": batch_size}
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_tensor_slices((inputs,)).batch(batch_size)
    return {"x": dataset.with_options(options)}


def _unpacked(values):
    return values[0] if len(values) == 1 else values

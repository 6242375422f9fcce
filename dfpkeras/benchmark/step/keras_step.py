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
        self._inference = case.inference
        self._batch_size = case.batch_size
        inputs, targets = batch_for(case, model)
        self._inputs, self._targets = _unpacked(inputs), _unpacked(targets)
        if case.network:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        else:
            loss = keras.losses.MeanSquaredError()
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
        model.compile(optimizer, _unpacked([loss] * len(targets)))

    def run(self):
        """Runs one step and waits for its result."""
        if self._inference:
            return self.model.predict(self._inputs, batch_size=self._batch_size, verbose=0)
        return self.model.train_on_batch(self._inputs, self._targets)


def batch_for(case, model):
    """Inputs and targets of a `KerasStep`, as `make_batch` returns them."""
    return make_batch(
        case.input_shapes(model),
        [tensor.dtype for tensor in model.inputs],
        [tensor.shape for tensor in model.outputs],
        CLASSES if case.network else None,
    )


def _unpacked(values):
    return values[0] if len(values) == 1 else values

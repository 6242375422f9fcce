"""From which size on layers gain from integers: the measurements behind
`dfpkeras.integration.small_layers`.

Each line is a step of training, and a prediction, that three policies take in turns in one process:
float32, dfp16 with every layer on integers, and dfp16 as it is. Six layers of a kind, one behind
the other, tell the size; whole models tell whether the rule keeps them from being slower. The
figures to trust are the ratios of medians. Run nothing else at the same time::

    python benchmarks/small_layers.py --seconds 3
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import dfpkeras
from dfpkeras.benchmark.measure import take_turns
from dfpkeras.models import build_model

POLICIES = ("float32", "dfp16(small_layers=int16)", "dfp16")
NUMBER = 6
layers = keras.layers


class DenseCell(layers.Layer):
    """A recurrent cell of two dense layers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = units
        self.kernel, self.recurrent = layers.Dense(units), layers.Dense(units)

    def build(self, shape):
        self.kernel.build(shape)
        self.recurrent.build((None, self.state_size))

    def call(self, inputs, states):
        output = keras.ops.tanh(self.kernel(inputs) + self.recurrent(states[0]))
        return output, [output]


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def dense(units):
    return sequential((units,), *(layers.Dense(units, activation="relu") for _ in range(NUMBER)))


def convolutions(size, channels, kernel_size):
    made = (
        layers.Conv2D(channels, kernel_size, padding="same", activation="relu")
        for _ in range(NUMBER)
    )
    return sequential((size, size, channels), *made)


def normalized_convolutions(size, channels, kernel_size):
    parts = []
    for _ in range(NUMBER):
        parts.append(layers.Conv2D(channels, kernel_size, padding="same", use_bias=False))
        parts += [layers.BatchNormalization(), layers.ReLU()]
    return sequential((size, size, channels), *parts)


def recurrent():
    return sequential((32, 16), layers.RNN(DenseCell(64)), layers.Dense(10))


def perceptron():
    hidden = [layers.Dense(units, activation="relu") for units in (256, 128)]
    return sequential((784,), *hidden, layers.Dense(10))


def small_network():
    parts = []
    for filters in (32, 64):
        parts += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D()]
    return sequential((28, 28, 1), *parts, layers.Flatten(), layers.Dense(10))


def resnet20():
    return build_model("resnet20", (32, 32, 3), 10)


#: Name, batch size, and function that makes the model.
WORK = [
    ("Dense 128", 32, lambda: dense(128)),
    ("Dense 512", 32, lambda: dense(512)),
    ("Dense 1024", 32, lambda: dense(1024)),
    ("Conv2D 3x3, 16 channels, 16x16", 1, lambda: convolutions(16, 16, 3)),
    ("Conv2D 3x3, 16 channels, 32x32", 4, lambda: convolutions(32, 16, 3)),
    ("Conv2D 3x3, 32 channels, 32x32", 8, lambda: convolutions(32, 32, 3)),
    ("Conv2D 1x1, 64 channels, 28x28", 1, lambda: convolutions(28, 64, 1)),
    ("the same with batch norm", 1, lambda: normalized_convolutions(28, 64, 1)),
    ("the same with batch norm", 4, lambda: normalized_convolutions(28, 64, 1)),
    ("MLP 784-256-128-10", 32, perceptron),
    ("MLP 784-256-128-10", 512, perceptron),
    ("RNN of two Dense 64, 32 steps", 32, recurrent),
    ("two Conv2D and Dense, 28x28", 1, small_network),
    ("two Conv2D and Dense, 28x28", 32, small_network),
    ("ResNet-20, 32x32", 8, resnet20),
    ("ResNet-20, 32x32", 32, resnet20),
]


def build(make, policy):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model = make()
    keras.config.set_dtype_policy("float32")
    model.compile("sgd", "mse")
    return model


def training_step(model, x, y):
    return lambda: model.train_on_batch(x, y)


def prediction(model, x):
    function = tf.function(lambda x: model(x, training=False))
    x = tf.constant(x)
    return lambda: function(x).numpy()


def multiply_adds(model, batch_size):
    """Those of the largest layer's forward product, in millions."""
    rows = dfpkeras.report(model, batch_size).rows
    return max(row.multiply_adds or 0 for row in rows) / 3e6


def cells(calls, seconds):
    times = take_turns(dict(zip(POLICIES, calls, strict=True)), seconds)
    old, *others = (1e3 * statistics.median(times[policy]) for policy in POLICIES)
    return f"{old:.3g} | " + " | ".join(f"{new / old:.2f}" for new in others)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="time for each half of a line")
    seconds = parser.parse_args().seconds
    print(f"{dfpkeras.kernels.get_isa()}, {dfpkeras.get_num_threads()} threads\n")
    print("| | batch | million multiply-adds | training, float32, ms | int16 | dfp16 ", end="")
    print("| prediction, float32, ms | int16 | dfp16 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, batch_size, make in WORK:
        models = [build(make, policy) for policy in POLICIES]
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batch_size, *models[0].input_shape[1:]), np.float32)
        y = np.zeros((batch_size, *models[0].output_shape[1:]), np.float32)
        work = multiply_adds(models[0], batch_size)
        training = cells([training_step(model, x, y) for model in models], seconds)
        predicting = cells([prediction(model, x) for model in models], seconds)
        line = f"| {name} | {batch_size} | {work:.2g} | {training} | {predicting} |"
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""Compares workloads too small to gain from integers, under dfp16 and float32.

Each line is a call or a step that both policies take in turns in one process; the figure to trust
is the ratio of the medians. Run nothing else at the same time::

    python benchmarks/small_calls.py --seconds 5
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

POLICIES = ("float32", "dfp16")
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


def recurrent():
    return keras.Sequential([keras.Input((32, 16)), layers.RNN(DenseCell(64)), layers.Dense(10)]), (
        32,
        32,
        16,
    )


def perceptron():
    hidden = [layers.Dense(units, activation="relu") for units in (256, 128)]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10)]), (32, 784)


def one_dense():
    return keras.Sequential([keras.Input((64,)), layers.Dense(64)]), (1, 64)


def one_convolution():
    return keras.Sequential([keras.Input((32, 32, 16)), layers.Conv2D(16, 3)]), (1, 32, 32, 16)


def mobilenet():
    return keras.applications.MobileNetV2(weights=None), (1, 224, 224, 3)


def build(make, policy):
    keras.utils.set_random_seed(0)
    with keras.device("cpu"):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return make()
        finally:
            keras.config.set_dtype_policy(before)


def eager_call(make, policy):
    model, shape = build(make, policy)
    x = tf.ones(shape)
    return lambda: model(x).numpy()


def graph_call(make, policy):
    model, shape = build(make, policy)
    x, function = tf.ones(shape), tf.function(model)
    return lambda: function(x).numpy()


def training_step(make, policy):
    model, shape = build(make, policy)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.ones(shape, "float32"), np.zeros(shape[0])
    return lambda: model.train_on_batch(x, y)


CALLS = {
    "eager call, Dense 64x64, batch 1": (eager_call, one_dense),
    "eager call, Conv2D 3x3x16x16 on 32x32, batch 1": (eager_call, one_convolution),
    "graph call, Dense 64x64, batch 1": (graph_call, one_dense),
    "graph call, Conv2D 3x3x16x16 on 32x32, batch 1": (graph_call, one_convolution),
    "graph call, MobileNetV2, batch 1": (graph_call, mobilenet),
    "training step, MLP 784-256-128-10, batch 32": (training_step, perceptron),
    "graph call, RNN of two Dense 64, 32 steps, batch 32": (graph_call, recurrent),
    "training step, RNN of two Dense 64, 32 steps, batch 32": (training_step, recurrent),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="time for each line")
    seconds = parser.parse_args().seconds
    print(f"{dfpkeras.kernels.get_isa()}, {dfpkeras.get_num_threads()} threads\n")
    print("| work | float32, ms | dfp16, ms | dfp16 / float32 |\n|---|--:|--:|--:|")
    for name, (kind, make) in CALLS.items():
        times = take_turns({policy: kind(make, policy) for policy in POLICIES}, seconds)
        old, new = (1e3 * statistics.median(times[policy]) for policy in POLICIES)
        print(f"| {name} | {old:.3g} | {new:.3g} | {new / old:.2f} |", flush=True)


if __name__ == "__main__":
    main()

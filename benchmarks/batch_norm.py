"""Compares BatchNormalization + ReLU, forward and backward, under dfp16 and float32.

Both policies get the input that convolutions give them: float32 activations and gradients; they
return INT16 under dfp16, float32 under float32. They run as TensorFlow graphs and take turns in one
process, as in ``dfpkeras bench``; the figure to trust is the ratio of the medians. Run nothing else
at the same time::

    python benchmarks/batch_norm.py --seconds 10
"""

import argparse
import functools
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import dfpkeras
from dfpkeras.benchmark.measure import take_turns
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.views import view_of

POLICIES = ("float32", "dfp16")


def main():
    arguments = parse_arguments()
    rng = np.random.default_rng(0)
    x, dy = (tf.constant(rng.standard_normal(arguments.shape, np.float32)) for _ in range(2))
    steps = {policy: functools.partial(build(policy), x, dy) for policy in POLICIES}
    seconds = take_turns(steps, arguments.seconds)
    median = {policy: 1e3 * statistics.median(times) for policy, times in seconds.items()}
    print(f"ISA {dfpkeras.kernels.get_isa()}, {dfpkeras.get_num_threads()} threads")
    print(f"shape {arguments.shape}: " + ", ".join(f"{p} {t:.2f} ms" for p, t in median.items()))
    print(f"float32 / dfp16, ratio of medians: {median['float32'] / median['dfp16']:.2f}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=4, default=(16, 56, 56, 256))
    parser.add_argument("--seconds", type=float, default=10, help="time, warm-up excluded")
    return parser.parse_args()


def build(policy):
    layers = [keras.layers.BatchNormalization(dtype=policy), keras.layers.ReLU(dtype=policy)]

    @tf.function
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layers[1](layers[0](x, training=True))
        sources = [x, *(v.value for v in layers[0].trainable_variables)]
        dx, *others = tape.gradient(y, sources, output_gradients=dy)
        if policy == "dfp16":
            formats = NumberFormat()
            y, dx = view_of(y, formats.activation).data, view_of(dx, formats.gradient).data
        return y, dx, *others

    return step


if __name__ == "__main__":
    main()

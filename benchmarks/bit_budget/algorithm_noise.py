"""The noise that each algorithm of 3x3 convolutions adds, in networks that train on real images.

    python benchmarks/bit_budget/bit_budget.py capture --data DIR --work WORK
    python benchmarks/bit_budget/algorithm_noise.py WORK

Reads the tensors that ``capture`` saved and prints, for each network, point of its training and
direction, the signal-to-noise ratio of the results against float64: median and least over the
layers that have a choice of algorithms. Operands rounded to bfloat16 are listed for comparison.
"""

import argparse
import statistics

import ml_dtypes
import numpy as np
from bit_budget_noise import decibels, exact_results, integer_results
from bit_budget_tensors import find_snapshots

from dfpkeras.kernels.convolution_plan import DIRECTIONS, NUMERICS
from dfpkeras.kernels.number_format import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS

BITS = {"x": ACTIVATION_BITS, "w": WEIGHT_BITS, "dy": GRADIENT_BITS}


def has_choice(layer):
    return layer.w.shape[:2] == (3, 3) and layer.strides == 1


def bfloat16_results(layer):
    """{direction: float64 result} from operands rounded to bfloat16."""
    rounded = {
        name: getattr(layer, name).astype(ml_dtypes.bfloat16).astype(np.float32)
        for name in ("x", "w", "dy")
    }
    return exact_results(type(layer)(**(vars(layer) | rounded)))


def noise_of(layer):
    """{(algorithm, direction): dB}"""
    exact = exact_results(layer)
    results = {name: integer_results(layer, BITS, name) for name in NUMERICS}
    results["bfloat16"] = bfloat16_results(layer)
    return {
        (name, direction): decibels(exact[direction], result[direction])
        for name, result in results.items()
        for direction in DIRECTIONS
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("work", help="what bit_budget.py capture wrote")
    names = (*NUMERICS, "bfloat16")
    print("| network | step | layers | direction |", " | ".join(names), "|")
    print("|---|--:|--:|---|" + "--:|" * len(names))
    for snapshot in find_snapshots(parser.parse_args().work):
        layers = [noise_of(layer) for layer in snapshot.layers() if has_choice(layer)]
        for direction in DIRECTIONS:
            cells = []
            for name in names:
                found = [layer[name, direction] for layer in layers]
                cells.append(f"{statistics.median(found):.0f} ({min(found):.0f})")
            row = snapshot.network, snapshot.step, len(layers), direction, *cells
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()

"""Predicts the speed of a training step on larger machines, and names what limits it.

    dfpkeras bench --step --batch-size 32 --contenders dfp16 dfp16_direct --json steps.json
    python benchmarks/large_machines.py steps.json > benchmarks/results/large_machines.md

A model, not a measurement. Each core gets as many images as a core of the measured machine had, and
kernels run one after another, each on all cores. A step's parts are

- convolutions: the larger of the measured time, which more cores with as much work each would take
  as well, and the time in which their operands and results pass the memory;
- other layers, which pass over memory: their measured bytes (measured time times this machine's
  bandwidth) over the bandwidth of the larger machine;
- the optimizer: the same bytes, whatever the batch;
- barriers: every kernel waits for its slowest core two to four times. A barrier costs
  ``BARRIER_SECONDS`` for each doubling of the cores, and the last tasks of a kernel leave half of a
  task idle on every core but one;
- the time between operations, in which one core works, as measured.

First-level and second-level caches belong to a core and grow with their number; what shared caches
hold between two layers is left out.
"""

import argparse
import json
import math
from pathlib import Path

from imagenet_epoch import BETWEEN, OPTIMIZER, PRODUCTS, parts_of

from dfpkeras.benchmark.networks import NETWORKS

#: Cores and bandwidth in GB/s: desktop with two channels of DDR5, servers with eight and twelve.
MACHINES = {8: 65, 32: 250, 64: 400}
BARRIER_SECONDS = 2e-6
#: Parallel regions of a kernel: packing and products; Winograd's measure and transform as well.
BARRIERS_OF_A_KERNEL = 4
#: Tasks of a thread in a kernel (DFP_TASKS_PER_THREAD), the last of which end unevenly.
TASKS_PER_THREAD = 4

CONTENDERS = ("dfp16_direct", "dfp16")


def convolution_bytes(network, batch_size):
    """Bytes that the operands and results of all convolutions of a step move: INT16, and for dw
    FP32, whose lines are fetched before they are written."""
    total = 0
    for layer, count in NETWORKS[network].items():
        x = math.prod(layer.x_shape(batch_size))
        y = math.prod(layer.y_shape(batch_size))
        w = math.prod(layer.w_shape)
        forward, backward_data = 2 * x + 2 * w + 2 * y, 2 * y + 2 * w + 2 * x
        total += count * (forward + backward_data + 2 * x + 2 * y + 8 * w)
    return total


def predict(comparison, contender, measured_cores, cores, bandwidth, bandwidth_here):
    """{what: seconds} of a step on a larger machine, bandwidths in bytes a second."""
    parts, growth = parts_of(comparison, contender), cores / measured_cores
    products = sum(parts[kind] for kind in PRODUCTS)
    optimizer, between = parts[OPTIMIZER], parts[BETWEEN]
    passes = sum(parts.values()) - products - optimizer - between
    moved = growth * convolution_bytes(comparison["network"], comparison["batch_size"])
    kernels = sum(comparison["contenders"]["dfp16"]["kernel_hits_per_step"].values())
    slower = bandwidth_here / bandwidth
    wait = BARRIERS_OF_A_KERNEL * kernels * BARRIER_SECONDS * math.log2(cores)
    return {
        "products": products,
        "waiting for convolutions' memory": max(0.0, moved / bandwidth - products),
        "passes over memory": passes * growth * slower,
        "optimizer": optimizer * slower,
        "barriers": wait + products * (1 - 1 / cores) / (2 * TASKS_PER_THREAD),
        "one core": between,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", type=Path, help="JSON file of dfpkeras bench --step")
    parser.add_argument(
        "--bandwidth-here",
        type=float,
        default=20,
        help="what passes over memory reach on the measured machine, in GB/s (default: 20)",
    )
    arguments = parser.parse_args()
    results = json.loads(arguments.steps.read_text())
    here = results["machine"]["num_threads"]
    names = list(predict(results["comparisons"][0], "dfp16", here, here, 1e9, 1e9))
    print(f"Measured: {results['machine']['cpu']}, {results['machine']['isa']}, {here} cores,")
    print(f"{arguments.bandwidth_here:.0f} GB/s. Predicted seconds of a step:\n")
    print("| network | cores | GB/s | batch | images/s |", " | ".join(names), "|")
    print("|---|--:|--:|--:|--:|" + "--:|" * len(names))
    for comparison in results["comparisons"]:
        for contender in CONTENDERS:
            if contender in comparison["contenders"]:
                print_rows(comparison, contender, here, 1e9 * arguments.bandwidth_here)


def print_rows(comparison, contender, here, bandwidth_here):
    """A row with what was measured, and one for each larger machine."""
    measured = comparison["contenders"][contender]["images_per_second"]
    name = f"{comparison['network']}, {contender}"
    print(
        f"| {name}, measured | {here} | | {comparison['batch_size']} | {measured:.1f} | | | | | | |"
    )
    for cores, bandwidth in MACHINES.items():
        seconds = predict(comparison, contender, here, cores, 1e9 * bandwidth, bandwidth_here)
        batch = comparison["batch_size"] * cores // here
        row = [name, cores, bandwidth, batch, f"{batch / sum(seconds.values()):.0f}"]
        row += [f"{value:.2f}" for value in seconds.values()]
        print("|", " | ".join(map(str, row)), "|")


if __name__ == "__main__":
    main()

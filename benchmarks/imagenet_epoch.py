"""Estimates how long an epoch of ImageNet takes, here and on a large server, from measured steps.

    dfpkeras bench --step --network resnet50 vgg16 googlenet alexnet --batch-size 32 \
        --contenders dfp16 tensorflow --json steps.json
    python benchmarks/imagenet_epoch.py steps.json > benchmarks/results/imagenet_epoch.md

On this machine, an epoch is the number of images divided by the measured images per second. On the
server, each part of a measured dfp16 step is scaled by what limits it:

- products (convolutions, dense layers) by the number of cores, at the same clock;
- passes over memory (all other layers) by the memory's bandwidth, and by the batch size as well;
- the optimizer, which passes over the weights, by the bandwidth alone;
- the time between operations (Python, TensorFlow's scheduling) is not scaled: a step has as many.

Decoding shares the cores with training. The cost of synchronising many threads and several NUMA
nodes is not included: the result is an optimistic estimate, not a measurement.
"""

import argparse
import json
from pathlib import Path

IMAGES = 1_281_167  # ILSVRC 2012, training

# Of the measured machine: what batch norm's passes reached (docs/design/training_step.md), and
# `dfpkeras data speed` on 500x375 JPEGs.
BANDWIDTH = 34e9
DECODED_PER_SECOND = 685

PRODUCTS = ("convolution", "dense")
OPTIMIZER, BETWEEN = "optimizer", "between operations"


def main():
    arguments = parse_arguments()
    results = json.loads(arguments.steps.read_text())
    cores = results["machine"]["num_threads"]
    print(f"Images of an epoch: {IMAGES:,}. Measured: {results['machine']['isa']}, {cores} cores.")
    print(f"Server: {arguments.cores} cores of the same instruction set and clock, ", end="")
    print(f"{arguments.bandwidth:.0f} GB/s, batches of {arguments.batch_size}.\n")
    print(
        "| network | batch | dfp16, images/s | epoch | float32 (TensorFlow), images/s | epoch |",
        end="",
    )
    print(" server, images/s | epoch |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for comparison in results["comparisons"]:
        print(table_row(comparison, cores, arguments))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", type=Path, help="JSON file of dfpkeras bench --step")
    parser.add_argument("--cores", type=int, default=64, help="cores of the server (default: 64)")
    parser.add_argument(
        "--bandwidth",
        type=float,
        default=250,
        help="bandwidth of its memory in GB/s (default: 250, 4/5 of 8 channels of DDR5-4800)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, help="batch size on the server (default: 256)"
    )
    return parser.parse_args()


def table_row(comparison, cores, arguments):
    """A network's line of the table."""
    ours = comparison["contenders"]["dfp16"]
    theirs = comparison["contenders"].get("tensorflow", {}).get("images_per_second")
    speeds = [ours["images_per_second"], theirs, server_speed(comparison, cores, arguments)]
    cells = [text for speed in speeds for text in speed_and_epoch(speed)]
    return f"| {comparison['network']} | {comparison['batch_size']} | {' | '.join(cells)} |"


def server_speed(comparison, cores, server):
    """Estimated images per second of dfp16 on the server."""
    parts = parts_of(comparison, "dfp16")
    more_images = server.batch_size / comparison["batch_size"]
    more_cores, more_bandwidth = server.cores / cores, 1e9 * server.bandwidth / BANDWIDTH
    products = sum(parts.pop(kind, 0) for kind in PRODUCTS) * more_images / more_cores
    fixed = parts.pop(OPTIMIZER, 0) / more_bandwidth + parts.pop(BETWEEN, 0)
    passes = sum(parts.values()) * more_images / more_bandwidth
    decoding = server.batch_size / (DECODED_PER_SECOND * more_cores)
    return server.batch_size / (products + fixed + passes + decoding)


def parts_of(comparison, contender):
    """Seconds of a measured step by kind; the profiler slows a step down: its parts are scaled in
    proportion."""
    measured = comparison["contenders"][contender]
    factor = measured["median"] / sum(measured["profile"].values())
    return {kind: factor * seconds for kind, seconds in measured["profile"].items()}


def speed_and_epoch(speed):
    """Images per second and the length of an epoch, as text."""
    if speed is None:
        return "", ""
    hours = IMAGES / speed / 3600
    epoch = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return f"{speed:.1f}" if speed < 100 else f"{speed:.0f}", epoch


if __name__ == "__main__":
    main()

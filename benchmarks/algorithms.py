"""How fast each algorithm of 3x3 convolutions is, layer by layer, against the direct one.

    python benchmarks/algorithms.py [--network resnet50 vgg16] [--batch-size 16] [--seconds 1]

Times every 3x3 layer with strides of 1 of a network in the three directions, algorithms taking
turns. Prints the direct algorithm's effective GMAC/s, the ratio of its median to each other one's
(above 1 the other is faster), and what ``algorithm="auto"`` selects; then the ratios of sums over
the network: of "auto", and of the best for each layer.
"""

import argparse
import collections
import statistics

from dfpkeras import kernels
from dfpkeras.benchmark.integer_kernels import IntegerKernels
from dfpkeras.benchmark.measure import take_turns
from dfpkeras.benchmark.networks import NETWORKS
from dfpkeras.benchmark.random_operands import make_operands
from dfpkeras.kernels.convolution_plan import DIRECTIONS, NUMERICS, plan_of


def has_choice(layer):
    return layer.kind == "convolution" and (layer.kernel_size, layer.strides) == (3, 1)


def calls_of(layer, batch_size, direction):
    """{algorithm: function}"""
    operands = make_operands(layer, batch_size)
    return {name: IntegerKernels(name).prepare(layer, direction, operands) for name in NUMERICS}


def automatic(layer, batch_size, direction):
    """The name of the algorithm that "auto" selects."""
    shapes = layer.x_shape(batch_size), layer.w_shape
    arguments = 1, layer.padding, 1, layer.groups
    return plan_of(direction, shapes, ("x", "w"), arguments, 0, "auto").native.algorithm


def measure(network, batch_size, seconds):
    """Prints the rows of a network."""
    sums = collections.defaultdict(float)
    for layer, count in NETWORKS[network].items():
        if not has_choice(layer):
            continue
        for direction in DIRECTIONS:
            times = take_turns(calls_of(layer, batch_size, direction), seconds)
            medians = {name: statistics.median(times[name]) for name in NUMERICS}
            direct, auto = medians["direct"], automatic(layer, batch_size, direction)
            for name, median in (*medians.items(), ("auto", medians[auto])):
                sums[direction, name] += count * median
            sums[direction, "best"] += count * min(medians.values())
            gmacs = layer.macs(batch_size) / direct / 1e9
            ratios = [f"{direct / medians[name]:.2f}" for name in NUMERICS[1:]]
            row = network, layer.label, count, direction, f"{gmacs:.0f}", *ratios, auto
            print("|", " | ".join(map(str, row)), "|", flush=True)
    for direction in DIRECTIONS:
        direct = sums[direction, "direct"]
        ratios = [f"{direct / sums[direction, name]:.2f}" for name in NUMERICS[1:]]
        totals = [f"{name} {direct / sums[direction, name]:.2f}" for name in ("auto", "best")]
        row = network, "sum", "", direction, "", *ratios, ", ".join(totals)
        print("|", " | ".join(row), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["resnet50", "vgg16"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each layer and direction"
    )
    options = parser.parse_args()
    info = kernels.info()
    print(
        f"{info['cpu']}, {info['isa']}, {info['num_threads']} threads, batch {options.batch_size}\n"
    )
    print("| network | layer | times | direction | GMAC/s | 2x2 | 4x4 | auto |")
    print("|---|---|--:|---|--:|--:|--:|---|")
    for network in options.network:
        measure(network, options.batch_size, options.seconds)


if __name__ == "__main__":
    main()

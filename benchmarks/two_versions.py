"""Compares the speed of two versions of dfpkeras.

    python benchmarks/two_versions.py OLD_PYTHON NEW_PYTHON [--step] [--rounds N]

Both arguments are interpreters, each with its own version installed. Each runs in a separate
process; the processes take turns call by call, since the speed of a shared machine changes within
seconds. Prints ratios of medians and of minima, new over old: below 1 the new version is faster.

Without ``--step`` it times every distinct convolution of ResNet-50 in the three directions, batch
8, and prints the sums over them; with ``--step`` it times training steps of ResNet-50, 224x224,
batch 32, and prints whether the losses are equal.
"""

import argparse
import collections
import statistics
import subprocess
import sys
import time

DIRECTIONS = ("forward", "backward_data", "backward_weights")
# Size, channels, filters, kernel size, strides.
SHAPES = [
    (224, 3, 64, 7, 2),
    (56, 64, 64, 1, 1),
    (56, 64, 64, 3, 1),
    (56, 64, 256, 1, 1),
    (56, 256, 128, 1, 1),
    (56, 128, 128, 3, 2),
    (28, 128, 512, 1, 1),
    (28, 128, 128, 3, 1),
    (28, 512, 256, 1, 1),
    (28, 256, 256, 3, 2),
    (14, 256, 1024, 1, 1),
    (14, 256, 256, 3, 1),
    (14, 1024, 512, 1, 1),
    (14, 512, 512, 3, 2),
    (7, 512, 2048, 1, 1),
    (7, 512, 512, 3, 1),
]


def convolution_calls():
    """{(direction, number of the shape): function whose result is not used}"""
    import numpy as np

    import dfpkeras
    from dfpkeras import kernels

    random, calls = np.random.default_rng(0), {}
    for number, (size, channels, filters, kernel, strides) in enumerate(SHAPES):
        x = random.standard_normal((8, size, size, channels), np.float32)
        w = random.standard_normal((kernel, kernel, channels, filters), np.float32)
        x, w = dfpkeras.quantize(x, bits=14), dfpkeras.quantize(w, bits=12)
        dy = dfpkeras.quantize(kernels.conv2d_forward(x, w, strides, "same"), bits=15)
        for direction, function, operands in (
            ("forward", kernels.conv2d_forward, (x, w)),
            ("backward_data", kernels.conv2d_backward_data, (dy, w, x.shape)),
            ("backward_weights", kernels.conv2d_backward_weights, (x, dy, w.shape)),
        ):
            calls[f"{direction} {number}"] = lambda f=function, o=operands, s=strides: f(
                *o, s, "same"
            )
    return calls


def step_calls():
    """{"step": function that returns the loss}"""
    import keras
    import numpy as np
    import tensorflow as tf

    import dfpkeras  # noqa: F401

    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("dfp16")
    model = keras.applications.ResNet50(weights=None, classes=1000)
    optimizer = keras.optimizers.SGD(0.01, 0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    x = tf.constant(np.random.default_rng(0).random((32, 224, 224, 3), np.float32))
    y = tf.constant(np.arange(32) * 31)
    return {"step": lambda: float(model.train_on_batch(x, y))}


def work(step):
    """A version's process: reads the name of a call, answers with its seconds and result."""
    calls = step_calls() if step else convolution_calls()
    print("ready", *calls, sep="\t", flush=True)
    for line in sys.stdin:
        call = calls[line.strip()]
        if not step:
            call()  # wakes the threads
        start = time.perf_counter()
        result = call()
        print(time.perf_counter() - start, result if step else None, sep="\t", flush=True)


class Version:
    """The process of one version."""

    def __init__(self, python, step):
        command = [python, __file__, "--work", *(["--step"] if step else [])]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.calls = self._answer()[1:]

    def run(self, call):
        """(seconds, result)"""
        self.process.stdin.write(call + "\n")
        self.process.stdin.flush()
        seconds, result = self._answer()
        return float(seconds), result

    def _answer(self):
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args[0]} ended; see its messages above")
        return answer.rstrip("\n").split("\t")


def compare(old, new, rounds):
    """{call: {"old": [(seconds, result)], "new": [...]}}"""
    times = collections.defaultdict(lambda: {"old": [], "new": []})
    for number in range(rounds):
        for index, call in enumerate(old.calls):
            turns = [("old", old), ("new", new)]
            for name, version in turns if (number + index) % 2 else turns[::-1]:
                times[call][name].append(version.run(call))
    return times


def show(title, measured):
    """One line for the sum of some calls."""
    sums = {
        (name, kind): sum(kind(seconds for seconds, _ in call[name]) for call in measured)
        for name in ("old", "new")
        for kind in (statistics.median, min)
    }
    parts = [
        f"{label} {1e3 * sums['old', kind]:8.1f} -> {1e3 * sums['new', kind]:8.1f} ms, "
        f"ratio {sums['new', kind] / sums['old', kind]:.3f}"
        for label, kind in (("medians", statistics.median), ("minima", min))
    ]
    print(f"{title:17} {';  '.join(parts)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="old and new interpreter")
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--rounds", type=int, help="default: 32, or 20 steps")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.step)
    if len(options.pythons) != 2:
        parser.error("expected two interpreters")
    versions = [Version(python, options.step) for python in options.pythons]
    times = compare(*versions, options.rounds or (20 if options.step else 32))
    if options.step:
        show("step", [times["step"]])
        losses = [[result for _, result in times["step"][name]] for name in ("old", "new")]
        print("losses are", "equal" if losses[0] == losses[1] else f"different: {losses}")
        return None
    for direction in DIRECTIONS:
        show(direction, [call for name, call in times.items() if name.startswith(direction + " ")])
    return None


if __name__ == "__main__":
    main()

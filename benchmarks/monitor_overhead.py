"""How much longer a training step takes with `dfpkeras.callbacks.DFPMonitor`.

    python benchmarks/monitor_overhead.py --model ResNet50 --batch-size 16 --seconds 60

Steps without the monitor, steps that it does not record and steps that it records take turns in one
process, on random images of 224x224 or of --image-size. Prints the medians, and what follows for
the mean over the default interval. Run nothing else at the same time.
"""

import argparse
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import dfpkeras
from dfpkeras.benchmark.measure import take_turns
from dfpkeras.callbacks import DFPMonitor

INTERVAL = 100


def step_with(monitor, model, x, y):
    """A step between the callback's two methods, as `fit` calls them."""

    def step():
        monitor.on_train_batch_begin(0)
        model.train_on_batch(x, y)
        monitor.on_train_batch_end(0)

    return step


def monitor_of(model, directory, interval):
    """A monitor that writes everywhere, after its first step."""
    monitor = DFPMonitor(directory, interval, tensorboard=f"{directory}/events", verbose=0)
    monitor.set_model(model)
    monitor.on_train_begin()
    return monitor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ResNet50", help="a name in keras.applications")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    keras.config.set_dtype_policy("dfp16")
    shape = (options.image_size, options.image_size, 3)
    model = getattr(keras.applications, options.model)(weights=None, classes=10, input_shape=shape)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).random((options.batch_size, *shape), np.float32)
    y = np.arange(options.batch_size) % 10
    with tempfile.TemporaryDirectory() as directory:
        # The first step of each is recorded, and not timed.
        seldom = step_with(monitor_of(model, f"{directory}/a", 10**9), model, x, y)
        always = step_with(monitor_of(model, f"{directory}/b", 1), model, x, y)
        seldom()
        steps = {
            "without the monitor": lambda: model.train_on_batch(x, y),
            "not recorded": seldom,
            "recorded": always,
        }
        times = take_turns(steps, options.seconds)
    without, unrecorded, recorded = (statistics.median(times[name]) for name in steps)
    mean = ((INTERVAL - 1) * unrecorded + recorded) / INTERVAL
    print(f"{options.model}, batch {options.batch_size}, {options.image_size}x{options.image_size}")
    print(f"{dfpkeras.kernels.get_isa()}, {dfpkeras.get_num_threads()} threads\n")
    print("| step | ms | more than without |\n|---|--:|--:|")
    rows = {
        "without the monitor": without,
        "with it, not recorded": unrecorded,
        "with it, recorded": recorded,
        f"mean, one in {INTERVAL} recorded": mean,
    }
    for name, seconds in rows.items():
        print(f"| {name} | {1e3 * seconds:.1f} | {seconds / without - 1:+.1%} |")


if __name__ == "__main__":
    main()

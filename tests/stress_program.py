"""Trains and predicts in several Python threads and processes at once; prints what happened.

    python stress_program.py

Run by test_thread_stress.py in a separate process, which prints the stacks of all threads to
standard error and ends if it takes too long. The last line printed is JSON.
"""

import faulthandler
import json
import multiprocessing
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

import dfpkeras
from dfpkeras import kernels

LONGEST_SECONDS = 300
THREADS = 3
TASKS = pathlib.Path("/proc/self/task")

layers = keras.layers
batches_of_children = multiprocessing.get_context("fork").Value("i", 0)


def random_images(count, seed):
    return np.random.default_rng(seed).standard_normal((count, 12, 12, 6)).astype("float32")


def labels_of(images):
    return np.arange(len(images)) % 3


def build_model(seed):
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("dfp16(small_layers=int16)")
    inputs = keras.Input((12, 12, 6))
    x = layers.Conv2D(16 + 8 * seed, 3, padding="same", use_bias=False)(inputs)
    shortcut = x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(16 + 8 * seed, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), shortcut]))
    x = layers.Conv2D(9, 3, strides=2)(layers.MaxPooling2D(2)(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, 0.9), loss)
    return model


def fit(model, seed):
    images = random_images(37, seed)
    model.fit(images, labels_of(images), batch_size=8, epochs=4, shuffle=False, verbose=0)
    return [np.array(w) for w in model.get_weights()]


def same(results, expected):
    return all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))


class WorkersSeen(threading.Thread):
    """Records repeatedly how many threads the kernels' pool has."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.stop = 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.002):
            self.most = max(self.most, count_workers())


def count_workers():
    count = 0
    for task in TASKS.iterdir():
        try:
            count += (task / "comm").read_text() == "dfpkeras\n"
        except OSError:  # the thread has ended
            continue
    return count


def call_kernels(stop):
    """Convolves until told to stop; returns whether all results were equal."""
    x = dfpkeras.quantize(random_images(4, 9), bits=14)
    w = dfpkeras.quantize(np.random.default_rng(8).standard_normal((3, 3, 6, 40), np.float32), 12)
    first = kernels.conv2d_forward(x, w)
    agrees = True
    while not stop.is_set():
        agrees &= np.array_equal(kernels.conv2d_forward(x, w), first)
    return bool(agrees)


def train_at_once():
    """Two models that are trained at once, while two more threads call kernels."""
    seeds = (1, 2)
    alone = [fit(build_model(seed), seed) for seed in seeds]
    models, stop = [build_model(seed) for seed in seeds], threading.Event()
    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call_kernels, stop) for _ in range(2)]
        fits = list(pool.map(fit, models, seeds))
        stop.set()
    return {
        "fits_agree": [same(*pair) for pair in zip(fits, alone, strict=True)],
        "kernels_agree": [caller.result() for caller in callers],
    }


def predict_at_once():
    """One model that predicts in four threads."""
    model, images = build_model(1), [random_images(11, seed) for seed in range(4)]
    alone = [model.predict(x, batch_size=4, verbose=0) for x in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: model.predict(x, batch_size=4, verbose=0), images * 3))
    return {"predictions_agree": same(results, alone * 3)}


class QuantizedImages(keras.utils.PyDataset):
    """Batches that are quantised, so that a forked worker calls kernels."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if multiprocessing.parent_process():
            with batches_of_children:
                batches_of_children.value += 1
        images = dfpkeras.quantize(random_images(8, index), bits=9).dequantize()
        return images, labels_of(images)


def fit_with_forked_workers():
    """Training whose data come from forked processes, and from this one."""
    multiprocessing.set_start_method("fork")
    losses = []
    for options in ({}, {"workers": 2, "use_multiprocessing": True}):
        model = build_model(1)
        losses.append(model.fit(QuantizedImages(**options), epochs=2, shuffle=False, verbose=0))
    alone, forked = (history.history["loss"] for history in losses)
    return {"forked_losses_agree": alone == forked, "forked_batches": batches_of_children.value}


def main():
    faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
    dfpkeras.set_num_threads(THREADS)
    workers = WorkersSeen()
    workers.start()
    summary = train_at_once() | predict_at_once()
    workers.stop.set()
    workers.join()
    summary |= {"threads": THREADS, "most_workers": workers.most} | fit_with_forked_workers()
    print(json.dumps(summary))


if __name__ == "__main__":
    sys.exit(main())

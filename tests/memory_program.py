"""Trains a small model for a thousand steps; prints the memory of the pool and the process.

    python memory_program.py

Run by test_memory_in_training.py in a separate process: in one that has run thousands of other
tests, the allocator's own fluctuations reach megabytes. The output is JSON.
"""

import json
import os

import keras
import numpy as np
from keras_support import dtype_policy, random_array

from dfpkeras.runtime import memory

layers = keras.layers
STEPS, FIRST_STEPS = 1000, 100
BATCH_SIZE = 6
STEPS_PER_EPOCH = 5


def small_model():
    inputs = keras.Input((12, 10, 5))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    x = layers.MaxPooling2D(2)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class MemoryRecord(keras.callbacks.Callback):
    """Records the memory of the pool and the process after each step of all epochs."""

    def __init__(self):
        super().__init__()
        self.pool, self.resident = [], []

    def on_train_batch_end(self, batch, logs=None):
        stats = memory.memory_stats()
        self.pool.append(stats["in_use"] + stats["cached"])
        self.resident.append(resident_bytes())


def main():
    keras.utils.set_random_seed(3)
    with dtype_policy("dfp16(small_layers=int16)"):
        model = small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss)
    count = (STEPS_PER_EPOCH - 1) * BATCH_SIZE + 1  # the last batch is a single image
    images, labels = random_array(count, 12, 10, 5), np.arange(count) % 3
    record = MemoryRecord()
    model.fit(images, labels, BATCH_SIZE, STEPS // STEPS_PER_EPOCH, verbose=0, callbacks=[record])
    # The maximum of many steps: what a single step needs depends on which kernels run at once.
    most = [max(record.pool[:FIRST_STEPS]), max(record.pool[-FIRST_STEPS:])]
    resident = [record.resident[FIRST_STEPS - 1], record.resident[-1]]
    print(json.dumps({"steps": len(record.pool), "pool": most, "resident": resident}))


if __name__ == "__main__":
    main()

"""Trains a model on two logical CPUs under both policies; prints the largest relative error.

A separate process, because TensorFlow can only divide the CPU before its first operation.
"""

import json

import keras
import tensorflow as tf
from keras import layers
from keras_support import dtype_policy, random_array, relative_error

import dfpkeras  # noqa: F401


def train(policy):
    keras.utils.set_random_seed(1)
    with dtype_policy(policy), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        network = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]
        model = keras.Sequential([*network, layers.Flatten(), layers.Dense(2)])
        model.compile("sgd", "mse")
        images, labels = random_array(8, 6, 6, 2), random_array(8, 2)
        model.fit(images, labels, batch_size=8, epochs=2, verbose=0, shuffle=False)
    return model.get_weights()


[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
results, expected = train("dfp16(small_layers=int16)"), train("float32")
print(json.dumps(max(map(float, map(relative_error, results, expected)))))

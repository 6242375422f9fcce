"""Small models with random layers, wrappers and merges, and random ways to train them a step.

A model is drawn as a tuple of blocks, plain data that builds the same model under each policy and
that a failing test prints. Blocks adapt to their input: a window is no larger than the image,
groups divide the channels, so that every drawn model is valid.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers
from keras_support import DenseCell, random_array, weight_gradients

ACTIVATIONS = (None, "relu", "relu6", "tanh", "swish", "sigmoid", "leaky_relu", "softmax")
SIMPLE = ("ReLU", "PReLU", "Dropout", "SpatialDropout", "Cropping", "ZeroPadding", "UpSampling")
SIMPLE += ("LayerNormalization", "GroupNormalization")
MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate")
BATCH, CHANNELS = 3, 4


@dataclass(frozen=True)
class Value:
    """A tensor of a model under construction, and its shape where nothing is unknown."""

    tensor: object
    shape: tuple

    @property
    def rank(self):
        return len(self.shape) - 2

    @property
    def smallest(self):
        return min(self.shape[1:-1])

    def through(self, layer):
        # A copy, because a layer remembers every call, and this one has another shape.
        shape = layer.compute_output_shape(self.shape)
        return Value(layer(self.tensor), tuple(shape))


def of_rank(name, value):
    """The layer class of a name for images or sequences, such as Conv2D and Conv1D."""
    return getattr(layers, f"{name}{value.rank}D")


def fitting(value, window):
    """Arguments of a windowed layer, made small enough for an image."""
    padding, dilation = window["padding"], window.get("dilation_rate", 1)
    size, strides = window["size"], window["strides"]
    if padding == "valid" and dilation * (size - 1) >= value.smallest:
        size = dilation = 1
    if dilation > 1 or value.smallest < 3:
        strides = 1
    return size, {"padding": padding, "strides": strides}, dilation


def convolution(value, name, filters, groups, activation, use_bias, **window):
    size, arguments, dilation = fitting(value, window)
    groups = math.gcd(groups, value.shape[-1])
    arguments |= {"activation": activation, "use_bias": use_bias}
    if name == "Conv":
        arguments |= {"groups": groups, "dilation_rate": dilation}
    if name != "DepthwiseConv":
        arguments |= {"filters": filters * groups}
    return value.through(of_rank(name, value)(kernel_size=size, **arguments))


def pooling(value, name, **window):
    size, arguments, _ = fitting(value, window)
    return value.through(of_rank(name, value)(size, **arguments))


def batch_norm(value, axis, center, scale):
    axis = axis if value.tensor.shape[axis] else -1
    return value.through(layers.BatchNormalization(axis=axis, center=center, scale=scale))


def activation(value, name):
    return value.through(layers.Activation(name or "relu"))


def simple(value, name):
    """A layer without drawn arguments."""
    if name in ("Dropout", "SpatialDropout"):
        cls = layers.Dropout if name == "Dropout" else of_rank(name, value)
        return value.through(cls(0.25, seed=1))
    if name == "Cropping":
        return value.through(of_rank(name, value)(1)) if value.smallest > 4 else value
    if name in ("ZeroPadding", "UpSampling"):
        return value.through(of_rank(name, value)(1 + (name == "UpSampling")))
    if name == "GroupNormalization":
        return value.through(layers.GroupNormalization(1))
    return value.through(getattr(layers, name)())


def dense(value, units, activation):
    return value.through(layers.Dense(units, activation=activation))


def normalized(value, units):
    return value.through(layers.SpectralNormalization(layers.Dense(units)))


def distributed(value, filters):
    """A layer on each row of an image, or on each element of a sequence."""
    inner = layers.Conv1D(filters, 1) if value.rank == 2 else layers.Dense(filters)
    return value.through(layers.TimeDistributed(inner))


def recurrent(value, name):
    """A recurrent layer along a sequence; not for images, to keep tests fast."""
    if value.rank == 2:
        return distributed(value, 2)
    if name == "custom":
        return value.through(layers.RNN(DenseCell(), return_sequences=True))
    return value.through(layers.Bidirectional(layers.LSTM(2, return_sequences=True)))


def merged(value, name, first, second):
    """Two branches and their sum, product or the like."""
    a, b = apply(value, first), apply(value, second)
    if name != "Concatenate" and a.shape != b.shape:
        b = value
        a = value.through(of_rank("Conv", value)(value.shape[-1], 3, padding="same"))
    if name == "Concatenate" and a.shape[:-1] != b.shape[:-1]:
        b = a
    merge = getattr(layers, name)()
    shape = tuple(merge.compute_output_shape([a.shape, b.shape]))
    return Value(merge([a.tensor, b.tensor]), shape)


def shared(value, blocks):
    """A model in the model, called twice: on a value and on its own result."""
    inner = keras.Input(value.tensor.shape[1:])
    result = apply(Value(inner, value.shape), blocks)
    filters = value.shape[-1]
    if result.shape != value.shape:
        result = Value(inner, value.shape)
    model = keras.Model(inner, of_rank("Conv", value)(filters, 1)(result.tensor))
    return Value(model(model(value.tensor)), value.shape)


@keras.saving.register_keras_serializable("tests")
def leaky(x):
    return tf.nn.relu(x) + 0.1 * x


def operation(value, name):
    """An operation that users write between layers."""
    tensor = value.tensor
    if name == "scaled":
        return Value(tensor * 0.5 + 1.0, value.shape)
    if name == "centered":
        return Value(tensor - keras.ops.mean(tensor, axis=-1, keepdims=True), value.shape)
    return value.through(layers.Lambda(leaky))


def apply(value, blocks):
    for make, arguments in blocks:
        value = make(value, **arguments)
    return value


def block(make, **arguments):
    return st.tuples(st.just(make), st.fixed_dictionaries(arguments))


_window = {
    "size": st.integers(1, 3),
    "strides": st.integers(1, 2),
    "padding": st.sampled_from(["same", "valid"]),
}
_small = st.integers(1, 5)
_activation = st.sampled_from(ACTIVATIONS)
_names = st.sampled_from(["Conv", "Conv", "DepthwiseConv", "SeparableConv"])
_layer_blocks = st.one_of(
    block(
        convolution,
        name=_names,
        filters=_small,
        groups=st.sampled_from([1, 1, 2]),
        activation=_activation,
        use_bias=st.booleans(),
        dilation_rate=st.integers(1, 2),
        **_window,
    ),
    block(pooling, name=st.sampled_from(["MaxPooling", "AveragePooling"]), **_window),
    block(batch_norm, axis=st.sampled_from([-1, -1, 1]), center=st.booleans(), scale=st.booleans()),
    block(activation, name=_activation),
    block(
        simple,
        name=st.sampled_from(SIMPLE),
    ),
    block(dense, units=_small, activation=_activation),
    block(normalized, units=_small),
    block(distributed, filters=_small),
    block(recurrent, name=st.sampled_from(["custom", "lstm"])),
    block(operation, name=st.sampled_from(["scaled", "centered", "lambda"])),
)


def _around(inner):
    branches = st.lists(inner, max_size=2).map(tuple)
    return st.one_of(
        block(merged, name=st.sampled_from(MERGES), first=branches, second=branches),
        block(shared, blocks=branches),
    )


_blocks = st.one_of(_layer_blocks, _layer_blocks, st.recursive(_layer_blocks, _around))


# Each way trains one step, or takes one gradient, and returns arrays to compare: the gradients of
# the loss with respect to the weights, or whatever else the entry point computes.


def _loss(model, x, y, training=True):
    return tf.reduce_mean((model(x, training=training) - y) ** 2)


def _gradients(model, loss):
    return weight_gradients(model, loss)[1]


def eager(model, x, y):
    return _gradients(model, lambda: _loss(model, x, y))


def graph(model, x, y):
    return tf.function(lambda x, y: _gradients(model, lambda: _loss(model, x, y)))(x, y)


def graph_of_any_batch(model, x, y):
    function = tf.function(
        lambda x, y: _gradients(model, lambda: _loss(model, x, y)),
        input_signature=[tf.TensorSpec((None, *t.shape[1:])) for t in (x, y)],
    )
    return function(x, y)


def _changes(model, train):
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    train()
    return [b - a for b, a in zip(before, model.get_weights(), strict=True)]


def fit(model, x, y):
    return _changes(model, lambda: model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0))


def train_on_batch(model, x, y):
    return _changes(model, lambda: model.train_on_batch(x, y))


def gradient_penalty(model, x, y):
    """The gradient of a gradient."""

    def loss():
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = _loss(model, x, y)
        return value + tf.reduce_sum(tape.gradient(value, x) ** 2)

    return _gradients(model, loss)


def per_example(model, x, y):
    def loss():
        rows = tf.vectorized_map(lambda row: model(row[None], training=False)[0], x)
        return tf.reduce_mean((rows - y) ** 2)

    return _gradients(model, loss)


def compiled(model, x, y):
    function = tf.function(
        lambda x, y: _gradients(model, lambda: _loss(model, x, y)), jit_compile=True
    )
    return function(x, y)


def accumulated(model, x, y):
    one, other = (
        _gradients(model, lambda part=part: _loss(model, *part))
        for part in ((x[:1], y[:1]), (x[1:], y[1:]))
    )
    return [a + b for a, b in zip(one, other, strict=True)]


def predict(model, x, y):
    model.predict(x, verbose=0)
    return [model.predict(x, verbose=0), *eager(model, x, y)]


WAYS = (
    eager,
    graph,
    graph_of_any_batch,
    fit,
    train_on_batch,
    gradient_penalty,
    per_example,
    compiled,
    accumulated,
    predict,
)


@dataclass(frozen=True)
class Case:
    """A model, how it is saved or copied before it trains, and how it trains."""

    blocks: tuple
    images: bool
    unknown_size: bool
    reload: bool
    way: object
    seed: int

    @property
    def shape(self):
        return (7, 6, CHANNELS) if self.images else (8, CHANNELS)

    def model(self):
        shape = (None,) * (len(self.shape) - 1) + (CHANNELS,) if self.unknown_size else self.shape
        inputs = keras.Input(shape)
        value = apply(Value(inputs, (BATCH, *self.shape)), self.blocks)
        pooled = value.through(of_rank("GlobalAveragePooling", value)())
        return keras.Model(inputs, layers.Dense(2)(pooled.tensor))

    def data(self):
        return random_array(BATCH, *self.shape, seed=self.seed), random_array(BATCH, 2, seed=1)

    def weights(self, model):
        """Initial values: an initialiser's zeros would hide an error."""
        rng = np.random.default_rng(self.seed)
        return [
            np.abs(value) + 0.1
            if "variance" in variable.name
            else value
            if variable.dtype != "float32"
            else (value + 0.1 * rng.standard_normal(value.shape)).astype("float32")
            for variable, value in zip(model.weights, model.get_weights(), strict=True)
        ]


def cases():
    return st.builds(
        Case,
        blocks=st.lists(_blocks, min_size=1, max_size=6).map(tuple),
        images=st.booleans(),
        unknown_size=st.sampled_from([False, False, True]),
        reload=st.sampled_from([False, False, False, True]),
        way=st.sampled_from(WAYS),
        seed=st.integers(0, 1000),
    )

"""One training step of a network under dfp16 and float32, and what rounding alone changes.

The yardstick is the float32 network whose tensors are rounded by TensorFlow's own operations where
dfp16 has integers: what a layer of the registered families reads and returns, the gradients of
both, and the matrices that it multiplies by, each to the magnitude bits of its role, relative to
the largest number of the tensor. It shares no code with the kernels. dfp16 differs from float32 by
what quantisation explains if it differs at most `ALLOWED` times as much as the worst of `DRAWS`
stochastically rounded networks.
"""

import collections
import contextlib
import dataclasses
import itertools

import keras
import numpy as np
import tensorflow as tf

import dfpkeras
from dfpkeras.integration.registry import family_of
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.kernel_hits import hits

#: "frozen": batch norms use their moving statistics, dfp16 runs eagerly; "training": batch norms
#: use the statistics of the batch, and the step of dfp16 is a graph, as in `fit`.
MODES = ("frozen", "training")

ALLOWED = 2
DRAWS = 2

#: Below these, errors are those of FP32's own order of additions.
SMALLEST = 1e-5

#: The gradient of one weight is a smaller sample than that of all.
ALLOWED_OF_A_WEIGHT = 4


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step computed.

    Attributes:
        outputs: list of float32 arrays.
        loss: float.
        gradients: list of float32 arrays, one for each trainable weight; zeros where there is none.
    """

    outputs: list
    loss: float
    gradients: list


@dataclasses.dataclass(frozen=True)
class Errors:
    """How far a step is from float32's.

    Attributes:
        output, gradient: float, Euclidean norm of the difference relative to that of the float32
            value, all outputs and all gradients taken as one vector each.
        loss: float, relative to float32's.
        gradients: float64 array, the same for each gradient, relative to its norm or to a hundredth
            of the largest one: a bias before a batch norm has rounding errors alone.
    """

    output: float
    loss: float
    gradient: float
    gradients: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A network under dfp16 beside float32.

    Attributes:
        dfp16: `Errors` of dfp16.
        rounded: `Errors` of float32 with rounded tensors, the largest of `DRAWS` draws.
        loss_bound: float, the largest relative change of the loss for which the errors of the
            outputs are `ALLOWED` times those of the rounded network.
        kernels: `collections.Counter`, runs of each kernel in the step under dfp16.
        report: `dfpkeras.Report` of the network after the step.
        lost: list of the paths of weights whose gradient is 0, but is not under float32.
    """

    dfp16: Errors
    rounded: Errors
    loss_bound: float
    kernels: collections.Counter
    report: object
    lost: list

    @property
    def faults(self):
        """What quantisation does not explain: a list of phrases, empty if all is well."""
        ours, theirs, found = self.dfp16, self.rounded, [f"no gradient: {p}" for p in self.lost]
        for name in ("output", "gradient"):
            bound = max(ALLOWED * getattr(theirs, name), SMALLEST)
            if not getattr(ours, name) <= bound:
                found.append(f"{name}: error {getattr(ours, name):.2e}, expected {bound:.2e}")
        if not ours.loss <= self.loss_bound:
            found.append(f"loss: error {ours.loss:.2e}, expected {self.loss_bound:.2e}")
        bounds = ALLOWED_OF_A_WEIGHT * np.maximum(theirs.gradients, np.median(theirs.gradients))
        wrong = np.flatnonzero(~(ours.gradients <= np.maximum(bounds, SMALLEST)))
        found += [
            f"gradient {index}: error {ours.gradients[index]:.2e}, expected {bounds[index]:.2e}"
            for index in wrong
        ]
        return found

    @property
    def products(self):
        """{direction: number of convolutions and matrix products that ran on integers}."""
        return {
            direction: sum(self.kernels[f"{kind}_{direction}"] for kind in PRODUCTS)
            for direction in ("forward", "backward_data", "backward_weights")
        }


#: Kinds of kernels that multiply by weights.
PRODUCTS = ("conv", "depthwise", "dense", "transposed_conv")


def compare(build, images, mode="frozen"):
    """Takes a step of a network under both policies.

    Args:
        build: function without arguments that returns a `keras.Model` of the global dtype policy.
        images: float32 array (batch, rows, columns, channels).
        mode: one of `MODES`.

    Returns:
        `Comparison`.
    """
    model = _built(build)
    twin = dfpkeras.to_float32(model)
    for network in (model, twin):
        remove_dropout(network)
    set_weights(twin, images)
    model.set_weights(twin.get_weights())
    training = mode == "training"
    expected = take_step(twin, images, training)
    hits.reset()
    step = take_step(model, images, training, in_graph=training)
    kernels = collections.Counter(hits)
    draws = [errors(rounded_step(twin, images, training, seed), expected) for seed in range(DRAWS)]
    rounded = Errors(
        *(
            np.max([getattr(draw, field.name) for draw in draws], axis=0)
            for field in dataclasses.fields(Errors)
        )
    )
    return Comparison(
        errors(step, expected),
        rounded,
        _loss_bound(rounded.output, expected),
        kernels,
        dfpkeras.report(model, batch_size=len(images)),
        lost_gradients(model, step, expected),
    )


def _built(build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("dfp16(small_layers=int16)")
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def remove_dropout(model):
    """Has layers drop nothing: their random numbers would differ between two models."""
    for layer in model._flatten_layers():
        for name in ("rate", "drop_path_rate"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)


def set_weights(model, images, seed=0):
    """Makes every weight matter: adds noise to those that are initially constant, such as biases
    and the scales of normalisations, and gives batch norms moving statistics of the images."""
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        value = weight.numpy()
        if value.size == 1 or not np.ptp(value):
            weight.assign(value + 0.1 * random.standard_normal(value.shape).astype(np.float32))
    with _calibrating_batch_norms(random):
        model(images, training=False)


@contextlib.contextmanager
def _calibrating_batch_norms(random):
    """Has each batch norm take the mean square of its input as moving variance.

    The moving mean is a tenth of its root, times a normal number. With the true mean subtracted,
    random networks with ReLUs are chaotic: each layer increases relative differences.
    """
    call = keras.layers.BatchNormalization.call

    def calibrating_call(layer, inputs, **kwargs):
        axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
        square = tf.reduce_mean(inputs**2, axes)
        layer.moving_variance.assign(square)
        layer.moving_mean.assign(0.1 * tf.sqrt(square) * random.standard_normal(square.shape))
        return call(layer, inputs, **kwargs)

    keras.layers.BatchNormalization.call = calibrating_call
    try:
        yield
    finally:
        keras.layers.BatchNormalization.call = call


def take_step(model, images, training, in_graph=False):
    """The `Step` of a model: mean squared error of each output from random targets, so that every
    output and all of its numbers count.

    Moving statistics are left as they were.
    """
    state = [weight.numpy() for weight in model.non_trainable_weights]
    run = tf.function(_step) if in_graph else _step
    outputs, loss, gradients = run(model, tf.constant(images), training)
    for weight, value in zip(model.non_trainable_weights, state, strict=True):
        weight.assign(value)
    return Step([y.numpy() for y in outputs], float(loss), [g.numpy() for g in gradients])


def _step(model, images, training):
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(images, training=training))
        loss = tf.add_n([_loss(y, seed) for seed, y in enumerate(outputs)])
    weights = model.trainable_variables
    gradients = [
        tf.zeros_like(weight) if gradient is None else tf.convert_to_tensor(gradient)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True)
    ]
    return outputs, loss, gradients


def _loss(y, seed):
    return tf.reduce_mean((y - tf.random.stateless_normal(tf.shape(y), (0, seed))) ** 2)


def _loss_bound(output_error, expected):
    """For the mean square of `y - t`, a change of `y` by `d` (root mean square) changes the loss by
    at most `2 · √loss · d + d²`."""
    squares = [np.mean(np.square(y, dtype=np.float64)) for y in expected.outputs]
    change = ALLOWED * max(output_error, SMALLEST) * np.sqrt(np.sum(squares))
    return (2 * np.sqrt(expected.loss) * change + change**2) / expected.loss


def rounded_step(twin, images, training, seed):
    """The `Step` of a float32 network with rounded tensors; its weights are left as they were."""
    number_format, before = NumberFormat(), twin.get_weights()
    with rounded_layers(number_format, seed) as rounded:
        for layer in twin._flatten_layers():
            family = family_of(layer)
            for weight in layer.trainable_weights if family and family.has_weights else ():
                if len(weight.shape) > 1:
                    weight.assign(rounded(weight.value, number_format.weight_bits))
        step = take_step(twin, images, training)
    twin.set_weights(before)
    return step


@contextlib.contextmanager
def rounded_layers(number_format, seed):
    """Has layers of the registered families round what they read and return, and its gradients.

    Yields a function of a float32 tensor and a number of bits that rounds the tensor.
    """
    call, numbers = keras.Layer.__call__, itertools.count()

    def rounded(x, bits):
        """Up with the probability of the discarded fraction."""
        largest = tf.maximum(tf.reduce_max(tf.abs(x)), 1e-30)
        unit = 2.0 ** (tf.floor(tf.math.log(largest) / np.log(2.0)) - (bits - 1))
        shift = tf.random.stateless_uniform(tf.shape(x), (seed, next(numbers)))
        return tf.floor(x / unit + shift) * unit

    @tf.custom_gradient
    def through(x):
        def gradient(dy):
            return rounded(dy, number_format.gradient_bits)

        return rounded(x, number_format.activation_bits), gradient

    def round_all(tensors):
        return keras.tree.map_structure(
            lambda x: through(x) if tf.is_tensor(x) and x.dtype == tf.float32 else x, tensors
        )

    def rounding_call(layer, *args, **kwargs):
        if family_of(layer) is None:
            return call(layer, *args, **kwargs)
        return round_all(call(layer, *map(round_all, args), **kwargs))

    keras.Layer.__call__ = rounding_call
    try:
        yield rounded
    finally:
        keras.Layer.__call__ = call


def errors(step, expected):
    """The `Errors` of a step."""
    norms = np.array([np.linalg.norm(gradient) for gradient in expected.gradients])
    differences = _distances(step.gradients, expected.gradients)
    return Errors(
        np.linalg.norm(_distances(step.outputs, expected.outputs))
        / np.linalg.norm([np.linalg.norm(y) for y in expected.outputs]),
        abs(step.loss - expected.loss) / expected.loss,
        np.linalg.norm(differences) / np.linalg.norm(norms),
        differences / np.maximum(norms, 1e-2 * norms.max()),
    )


def _distances(arrays, others):
    return np.array([np.linalg.norm(a - b) for a, b in zip(arrays, others, strict=True)])


def lost_gradients(model, step, expected):
    """Paths of the weights that have no gradient, but more than float32's rounding error of zero
    under float32."""
    largest = max(np.linalg.norm(gradient) for gradient in expected.gradients)
    return [
        weight.path
        for weight, ours, theirs in zip(
            model.trainable_weights, step.gradients, expected.gradients, strict=True
        )
        if not np.any(ours) and np.linalg.norm(theirs) > 1e-4 * largest
    ]

"""MultiHeadAttention and GroupQueryAttention on integers, against Keras' own in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)

import dfpkeras
from dfpkeras.integration.keras_internals import wrap_layer
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.runtime.wrapping import UnknownSignatureError

LAYERS = {
    "multi_head": lambda **options: layers.MultiHeadAttention(3, 4, value_dim=5, **options),
    "group_query": lambda **options: layers.GroupQueryAttention(6, 4, 2, **options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


def attention(name, queries, keys, **options):
    """A layer with weights, its float32 twin, and the tensors that it attends with."""
    layer = LAYERS[name](**options)
    x, y = (tf.constant(random_array(2, n, 8, seed=n)) for n in (queries, keys))
    twin = type(layer).from_config(layer.get_config() | {"dtype": "float32"})
    for each in (layer, twin):
        each.build(query_shape=x.shape, value_shape=y.shape)
    for index, weight in enumerate(layer.weights):
        if "seed" not in weight.path:
            weight.assign(random_array(*weight.shape, seed=10 + index) / 3)
    twin.set_weights(layer.get_weights())
    return layer, twin, x, y


def outputs_and_gradients(layer, x, y, in_graph, **options):
    """Everything that the layer returns, and the gradients of both tensors and all weights but the
    bias of keys, on which nothing depends."""

    def compute(x, y):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            outputs = keras.tree.flatten(layer(x, y, **options))
            loss = sum(tf.reduce_sum(output**2) for output in outputs)
        weights = [w.value for w in layer.trainable_weights if "key/bias" not in w.path]
        return [*outputs, *tape.gradient(loss, [x, y, *weights])]

    return (tf.function(compute) if in_graph else compute)(x, y)


def mask(queries, keys, seed=5):
    """One query may attend to nothing."""
    allowed = np.random.default_rng(seed).random((2, queries, keys)) < 0.6
    allowed[0, 1] = False
    return tf.constant(allowed)


CALLS = {
    "plain": {},
    "scores": {"return_attention_scores": True},
    "causal": {"use_causal_mask": True},
    "causal_scores": {"use_causal_mask": True, "return_attention_scores": True},
    "masked": {"attention_mask": mask(7, 9)},
    "masked_scores": {"attention_mask": mask(7, 9), "return_attention_scores": True},
    "masked_causal": {"attention_mask": mask(7, 9), "use_causal_mask": True},
    "inference_with_dropout": {"training": False, "attention_mask": mask(7, 9)},
}


@every_layer
@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("call", CALLS)
def test_against_float32(name, call, in_graph):
    options = {"dropout": 0.5} if "dropout" in call else {}
    layer, twin, x, y = attention(name, 7, 9, **options)
    results = outputs_and_gradients(layer, x, y, in_graph, **CALLS[call])
    assert (hits["einsum_forward"], hits["einsum_backward"]) == (2, 4)
    assert hits["dense_forward"] == hits["dense_backward_weights"] == 4
    hits.reset()
    expected = outputs_and_gradients(twin, x, y, in_graph, **CALLS[call])
    assert not hits and len(results) == len(expected)
    for actual, wanted in zip(results, expected, strict=True):
        assert 0 < relative_error(actual, wanted) < 2 * QUANTIZATION_TOLERANCE
    assert dfpkeras.report(layer).rows[0].reason == "products of attention"


@every_layer
def test_dropout_drops_probabilities(name):
    layer, twin, x, y = attention(name, 7, 9, dropout=0.5, seed=3)
    results = [each(x, y, training=True) for each in (layer, twin)]
    assert relative_error(*results) < QUANTIZATION_TOLERANCE
    assert relative_error(layer(x, y, training=False), results[0]) > 0.1
    assert hits["einsum_forward"] == 4


@every_layer
def test_unknown_lengths_and_masks_of_embeddings(name):
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(11, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, LAYERS[name]()(x, x))
    for index, weight in enumerate(model.weights):
        weight.assign(random_array(*weight.shape, seed=20 + index))
    twin = float32_twin(model)
    for length in (1, 6, 3):
        tokens = np.random.default_rng(length).integers(0, 11, (4, length))
        hits.reset()
        results = [tf.function(each)(tf.constant(tokens)) for each in (model, twin)]
        assert relative_error(*results) < QUANTIZATION_TOLERANCE
        assert hits["einsum_forward"] == 2


@every_layer
def test_second_order_gradients(name):
    layer, twin, x, y = attention(name, 7, 9)
    results = []
    for each in (layer, twin):
        with tf.GradientTape() as outer:
            outer.watch([x, y])
            with tf.GradientTape() as inner:
                inner.watch([x, y])
                loss = tf.reduce_sum(each(x, y) ** 2)
            first = inner.gradient(loss, [x, y])
            squares = sum(tf.reduce_sum(g**2) for g in first)
        results.append([*first, *outer.gradient(squares, [x, y])])
    for actual, wanted in zip(*results, strict=True):
        assert relative_error(actual, wanted) < 4 * QUANTIZATION_TOLERANCE


def test_several_axes_are_keras_own():
    x = tf.constant(random_array(2, 3, 4, 8))
    layer = layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))
    twin = layers.MultiHeadAttention(2, 4, attention_axes=(1, 2), dtype="float32")
    layer(x, x), twin(x, x)
    twin.set_weights(layer.get_weights())
    hits.reset()
    assert relative_error(layer(x, x), twin(x, x)) < QUANTIZATION_TOLERANCE
    assert hits["dense_forward"] == 4 and not hits["einsum_forward"]
    row = dfpkeras.report(layer).rows[0]
    assert (row.computes, row.reason) == ("float32", "its latest call has no integer path")


@pytest.mark.small_layers
def test_small_attention_stays_float32():
    """Unless its policy says otherwise."""
    with dtype_policy(dfpkeras.DFP16Policy()):
        layer = layers.MultiHeadAttention(2, 4)
        x = tf.constant(random_array(2, 3, 8))
        layer(x, x)
    assert not hits["einsum_forward"]
    assert "too small to gain: 288 multiply-adds" in dfpkeras.report(layer).rows[0].reason


def test_a_subclass_may_call_it_by_name_or_replace_it():
    class ByName(layers.MultiHeadAttention):
        def call(self, query, value, key=None):
            tensors = {
                "query": self._query_dense(query),
                "value": self._value_dense(value),
                "key": self._key_dense(value),
            }
            outputs, _ = self._compute_attention(**tensors, training=False)
            return self._output_dense(outputs)

    class Replaced(layers.MultiHeadAttention):
        def _compute_attention(self, query, key, value, *args, **kwargs):
            return query, None

    x = tf.constant(random_array(2, 3, 8))
    layer = ByName(2, 4)
    outputs = layer(x, x)
    assert hits["einsum_forward"] == 2
    twin = layers.MultiHeadAttention(2, 4, dtype="float32")
    twin(x, x)
    twin.set_weights(layer.get_weights())
    assert relative_error(outputs, twin(x, x)) < QUANTIZATION_TOLERANCE
    hits.reset()
    Replaced(2, 4)(x, x)
    assert not hits["einsum_forward"]


def test_multiply_adds_and_bytes_are_counted_once():
    inputs, others = keras.Input((7, 8)), keras.Input((9, 8))
    outputs = layers.MultiHeadAttention(3, 4, value_dim=5, name="attention")(inputs, others)
    report = dfpkeras.report(keras.Model([inputs, others], outputs, name="net"), 10)
    rows = {row.path: row for row in report.rows}
    assert rows["net/attention"].multiply_adds == 3 * 10 * 7 * 9 * 3 * (4 + 5)
    assert rows["net/attention"].moved == (2 * 10 * (2 * (7 + 9) * 8 + 2 * 7 * 8), 0)


def test_a_method_of_other_parameters_is_refused():
    class Changed(layers.Layer):
        def attend(self, queries, key, value):
            return queries

    with pytest.raises(UnknownSignatureError, match=r"takes \(self, queries, key, value\)"):
        wrap_layer(Changed, "attend", None, ("query", "key", "value"))

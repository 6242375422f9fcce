"""The products of MultiHeadAttention and GroupQueryAttention; the softmax is Keras' own."""

import keras

from dfpkeras import ops
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register

_TENSORS = ("query", "key", "value")
#: Batch, queries (t), keys (s), heads and channels of a head.
_SCORES, _VALUES = "btnh,bsnh->bnts", "bnts,bsnh->btnh"
#: What Keras' own attention without dropout puts where a mask is False.
_MASKED = -0.7 * 3.4028234663852886e38


def _multi_head(
    layer,
    query,
    key,
    value,
    attention_mask=None,
    training=None,
    return_attention_scores=False,
    use_causal_mask=False,
):
    if layer._attention_axes != (1,):
        return NotImplemented
    softmax = _softmax(layer, layer._dropout, return_attention_scores, training)
    mask = _mask(layer, query, value, attention_mask, use_causal_mask)
    return _attend(layer, query, key, value, layer._inverse_sqrt_key_dim, mask, softmax)


def _group_query(
    layer, query, key, value, attention_mask=None, training=None, use_causal_mask=False
):
    softmax = _softmax(layer, layer.dropout, layer._return_attention_scores, training)
    mask = _mask(layer, query, value, attention_mask, use_causal_mask)
    return _attend(layer, query, key, value, layer._inverse_sqrt_head_dim, mask, softmax)


def _attend(layer, query, key, value, scale, mask, softmax):
    """(values, what Keras returns as scores), or NotImplemented."""
    number_format = number_format_of(layer)
    query = keras.ops.multiply(query, scale)
    scores = ops.einsum(_SCORES, query, key, number_format=number_format)
    if scores is None:
        return NotImplemented
    probabilities, kept = softmax(scores, mask)
    return ops.einsum(_VALUES, probabilities, value, number_format=number_format), kept


def _mask(layer, query, value, mask, use_causal_mask):
    """The mask of scores, if there is one."""
    if not use_causal_mask:
        return mask
    causal = layer._compute_causal_mask(query, value)
    return causal if mask is None else keras.ops.logical_and(mask, causal)


def _softmax(layer, dropout, return_scores, training):
    """A function of scores and a mask that returns the probabilities that values are multiplied by,
    and those that Keras returns. Where Keras need not return any, it masks in another way: queries
    that may attend to nothing attend to everything."""

    def with_layers(scores, mask):
        probabilities = layer._masked_softmax(scores, mask)
        if not dropout:
            return probabilities, probabilities
        return layer._dropout_layer(probabilities, training=training), probabilities

    def directly(scores, mask):
        if mask is not None:
            mask = keras.ops.cast(mask, "bool")
            mask = keras.ops.expand_dims(mask, -3) if len(mask.shape) == 3 else mask
            scores = keras.ops.where(mask, scores, _MASKED)
        return keras.ops.softmax(scores), None

    return with_layers if dropout > 0 or return_scores else directly


def _operation(layer):
    return None if layer._flash_attention else "products of attention"


def _multiply_adds(layer, shapes):
    if shapes is None or not layer.built:
        return None
    batch, queries = shapes.inputs[0][:2]
    keys = shapes.inputs[min(1, len(shapes.inputs) - 1)][1]
    heads, channels = layer._query_dense.kernel.shape[1:]
    of_value = layer._value_dense.kernel.shape[-1]
    return batch * queries * keys * heads * (channels + of_value)


register(
    LayerFamily(
        kind="attention",
        methods=(
            IntegerMethod(
                keras.layers.MultiHeadAttention, "_compute_attention", _multi_head, inputs=_TENSORS
            ),
            IntegerMethod(
                keras.layers.GroupQueryAttention,
                "_compute_attention",
                _group_query,
                inputs=_TENSORS,
            ),
        ),
        has_weights=True,
        operation=_operation,
        multiply_adds=_multiply_adds,
        kernels=("einsum_",),
        layers="`MultiHeadAttention` and `GroupQueryAttention` over one axis: the products of "
        "queries and keys, and of probabilities and values",
        computation="INT16 kernels in all three directions; the softmax is float32",
    )
)

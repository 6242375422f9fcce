"""Policies under which a layer that computes in float32 is an error.

`report` says the same of a whole model, after the fact. Models only connect layers, and are not
judged; any other layer that holds layers is, for what it computes itself.
"""

import keras

from dfpkeras.backend import current
from dfpkeras.integration.calls import decide, observe
from dfpkeras.integration.keras_internals import is_symbolic
from dfpkeras.integration.policy import policy_of, routing_of

_COMPUTES_NOTHING = (keras.Model, keras.layers.InputLayer)


def check(layer, outputs):
    """Checks a layer that was just called.

    Args:
        layer: `keras.Layer`.
        outputs: what it returned; symbolic where a functional model is built.

    Raises:
        ValueError: the layer's policy is strict, and it computed in float32, or would.
    """
    routing = routing_of(layer)
    if routing is None or not routing.strict or isinstance(layer, _COMPUTES_NOTHING):
        return
    symbolic = is_symbolic(outputs)
    if not symbolic and current().wants_float32():
        return
    decision = decide(layer) if symbolic else observe(layer)
    if not decision.integer:
        raise ValueError(
            f"layer {layer.path or layer.name!r} ({type(layer).__name__}): expected integers, as "
            f"its policy {policy_of(layer).name!r} is strict, got float32: {decision.reason}. "
            'Give the layer dtype="float32" if that is meant'
        )

"""Where a layer computes: which calls run on integers, and what the latest one did.

The methods in which Keras' own layers compute their results are wrapped. A layer of the policy
"dfp16" then runs the integer operation, any other layer Keras' own method; subclasses that call
``super().call()`` or ``super().convolution_op()`` work as well, and saved models keep naming Keras'
classes.
"""

import functools
import typing
import weakref

import keras

from dfpkeras.backend import current
from dfpkeras.integration.keras_internals import is_symbolic, is_wrapped, wrap_layer
from dfpkeras.integration.policy import number_format_of, policy_of
from dfpkeras.integration.registry import families, family_of
from dfpkeras.integration.results import remember_number_format
from dfpkeras.integration.small_layers import why_too_small
from dfpkeras.runtime.kernel_observers import owned_by


class Decision(typing.NamedTuple):
    """Where a layer computes.

    Attributes:
        integer: bool, True if it runs on the integer kernels.
        reason: str, the reason in one phrase.
    """

    integer: bool
    reason: str


_last_call: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def decide(layer):
    """Says whether a Keras layer runs on integers, or would if its input were integers.

    Args:
        layer: `keras.Layer`, built or not; or an operation of a functional model, whose policy is
            that of the layers that it reads.

    Returns:
        `Decision` from what is known without calling the layer.
    """
    if number_format_of(layer) is None and isinstance(layer, keras.Layer):
        return Decision(False, f"its dtype policy is {policy_of(layer).name!r}")
    family = family_of(layer)
    operation = family and family.operation(layer)
    if operation is None:
        return Decision(False, _why_no_operation(layer))
    if family.has_weights and getattr(layer, "lora_enabled", False):
        return Decision(False, "LoRA is enabled: its weights are meant to stay float32")
    return Decision(True, operation)


def observe(layer):
    """Like `decide`, but takes into account what the latest call of the layer did.

    A call may have had inputs that the kernels do not take; and if a layer overrides Keras' own
    computation, only a call can show whether it still reaches it.
    """
    decision, latest = decide(layer), _last_call.get(layer)
    if not decision.integer:
        return decision
    if not family_of(layer).has_weights:
        return latest or Decision(False, "it depends on its input, and was not called yet")
    if latest is not None and not latest.integer:
        return latest
    if _overrides_keras(layer):
        if latest is None:
            return Decision(False, "it overrides Keras' computation and has not called it yet")
        return Decision(True, f"{latest.reason}, where it calls Keras' own")
    return decision


def wrap_layers():
    """Wraps the methods of all families; what is already wrapped stays as it is."""
    for family in families():
        for method in family.methods:
            wrapper = functools.partial(_call, family, method)
            wrap_layer(method.cls, method.name, wrapper, method.inputs)


def _call(family, method, original, layer, *args, **kwargs):
    """Runs the integer operation where it can, otherwise Keras' own method.

    Its kernels run on behalf of the layer, which graphs, kept for longer, refer to weakly.
    """
    inputs = args[: len(method.inputs)]
    if not (method.applies(layer) and decide(layer).integer and _computes_values(inputs)):
        return original(layer, *args, **kwargs)
    why_not = _refusal(family, inputs) or why_too_small(family, layer, inputs)
    if why_not is None:
        with owned_by(weakref.ref(layer)):
            result = method.compute(layer, *args, **kwargs)
        if result is not NotImplemented:
            _last_call[layer] = Decision(True, family.operation(layer))
            return remember_number_format(result, layer)
        why_not = _NO_PATH if family.has_weights else _NO_INTEGERS
    _last_call[layer] = Decision(False, why_not)
    return original(layer, *args, **kwargs)


_NO_PATH = "its latest call has no integer path"
_NO_INTEGERS = "the input of its latest call had no integers"


def _computes_values(inputs):
    """Whether a call is neither for shapes only nor for a graph to be saved."""
    return not is_symbolic(inputs) and not current().wants_float32()


def _refusal(family, inputs):
    unsupported = map(current().unsupported, inputs if family.has_weights else ())
    return current().refusal() or next(filter(None, unsupported), None)


def _why_no_operation(layer):
    if layer._layers:
        return "its inner layers are listed separately, what it adds is float32"
    name = type(layer).__name__
    if not layer.weights:
        return f"{name} holds no weights, no integer path"
    return f"{name} has no integer path yet"


def _overrides_keras(layer):
    methods = family_of(layer).methods
    names = {method.name for method in methods if isinstance(layer, method.cls)}
    return not all(is_wrapped(layer, name) for name in names)

"""Results with custom gradients.

`tf.custom_gradient` keeps each such function, and with it the graph and the weights of its model,
in a process-wide registry forever. Here a graph itself owns its gradients.
"""

import itertools
import weakref

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record

from dfpkeras.backend.tensorflow.tracing import is_in_scope, refusal
from dfpkeras.runtime.kernel_observers import on_behalf_of_owner

_TYPE = "DFPKerasGradient"
_ATTRIBUTE = "_dfp_gradients"

_numbers = itertools.count()
_gradients: "weakref.WeakValueDictionary[str, _Gradient]" = weakref.WeakValueDictionary()


def differentiable(values, inputs, gradient, float32_values=None):
    """See `Backend.differentiable`."""
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    gradient = on_behalf_of_owner(gradient)

    def backward(*upstream):
        if float32_values is not None and refusal():
            return float32_gradient(float32_values, inputs, upstream)
        gradients = gradient(*upstream)
        return list(gradients) if isinstance(gradients, (list, tuple)) else [gradients]

    several = isinstance(values, (list, tuple))
    results = _recorded(list(values) if several else [values], inputs, backward)
    return results if several else results[0]


def float32_gradient(function, inputs, upstream):
    """See `Backend.float32_gradient`."""
    # Tapes record nothing while a `tf.autodiff.ForwardAccumulator` does.
    with forwardprop_util.push_forwardprop_state():
        return _tape_gradient(function, inputs, upstream)


def _tape_gradient(function, inputs, upstream):
    with tf.GradientTape() as tape:
        inputs = [tf.identity(x) for x in inputs]
        tape.watch(inputs)
        values = function(*inputs)
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    zero = tf.UnconnectedGradients.ZERO
    return tape.gradient(values, inputs, upstream, unconnected_gradients=zero)


def summands(x):
    """See `Backend.summands`. In graphs only, where nothing computes a sum that nobody reads."""
    is_sum = not tf.executing_eagerly() and is_in_scope(x) and x.op.type == "AddN"
    return list(x.op.inputs) if is_sum else None


def _recorded(values, inputs, backward):
    if tf.executing_eagerly():
        with record.stop_recording():
            results = [tf.identity(value) for value in values]
        record.record_operation(_TYPE, results, inputs, backward)
        return results
    padded = _Gradient(lambda *dys: [None] * len(values) + backward(*dys[: len(values)]))
    graph = tf.compat.v1.get_default_graph()
    name = f"dfp_gradient_{next(_numbers)}"
    _gradients[name] = padded
    _keep_with_graph(graph, padded)
    tensors = [*values, *inputs]
    # The gradient flows to the inputs because they are inputs of this operation, too.
    with record.stop_recording(), graph.gradient_override_map({"IdentityN": _TYPE}):
        results = tf.raw_ops.IdentityN(input=tensors, name=name)
    record.record_operation(_TYPE, results, tensors, padded.function)
    return results[: len(values)]


class _Gradient:
    """A function that can be weakly referenced."""

    def __init__(self, function):
        self.function = function


def _keep_with_graph(graph, gradient):
    """A loop's body and a branch are traced in separate graphs, which TensorFlow may drop and
    rebuild from their definitions, under the graph around them."""
    while graph is not None and graph.building_function:
        if not hasattr(graph, _ATTRIBUTE):
            setattr(graph, _ATTRIBUTE, [])
        getattr(graph, _ATTRIBUTE).append(gradient)
        graph = graph.outer_graph


@tf.RegisterGradient(_TYPE)
def _registered(operation, *upstream):
    gradient = _gradients.get(operation.name.split("/")[-1])
    if gradient is None:
        raise LookupError(
            f"The gradient of {operation.name!r} went with the graph it was traced in, of which "
            "this one is a copy. Differentiate in the process and graph that the model was traced "
            "in, or trace it within `with dfpkeras.float32_only():`."
        )
    return gradient.function(*upstream)

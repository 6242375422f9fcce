"""Where TensorFlow traces graphs in which the kernels cannot run.

The kernels run in this process, as Python callbacks with custom gradients. Four things that
TensorFlow does with a graph exclude them: vectorising it (`tf.vectorized_map` and jacobians copy
operations, but not their gradients), compiling it (XLA), saving it and freezing it. In the first
two, layers and gradients compute in float32; what would be saved is traced again, or refused.

TensorFlow has no public way to tell when it vectorises, or to keep functions apart that it traced
under different conditions: `install` wraps some of its internal functions.
"""

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import function_context
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.ops import control_flow_util
from tensorflow.python.ops.control_flow_v2_func_graphs import WhileBodyFuncGraph
from tensorflow.python.ops.parallel_for import control_flow_ops as parallel_for
from tensorflow.python.saved_model import save, save_context

from dfpkeras.backend.float32_only import ThreadFlag, is_float32_only
from dfpkeras.runtime.wrapping import Wrappers

#: Prefix of the name of every operation of a graph that calls a kernel.
KERNEL_NAME = "dfpkeras_kernel"

_VECTORIZED = "its latest call was vectorised, which loses the kernels' gradients"
_COMPILED = "its latest call was compiled by XLA, which cannot call the kernels"
_SAVED = "signatures: a function to be saved"
_FROZEN = "func: a function to be frozen or converted"

_vectorized = ThreadFlag()


def refusal():
    """Says why the kernels cannot be part of what is computed or traced now, or returns None."""
    if _vectorized.is_set:
        return _VECTORIZED
    if not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    ):
        return _COMPILED
    return None


def wants_float32():
    """Whether what is traced now must not hold kernels: within `float32_only`, or for a SavedModel,
    which cannot hold Python callbacks."""
    return is_float32_only() or save_context.in_save_context()


def is_lazy():
    """See `Backend.is_lazy`."""
    return not tf.executing_eagerly()


def is_in_loop():
    """See `Backend.is_in_loop`."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None and not isinstance(graph, WhileBodyFuncGraph):
        graph = getattr(graph, "outer_graph", None)
    return graph is not None


def is_in_scope(x):
    """Whether tensor `x` belongs to the context that runs now.

    A tensor made inside a loop body or a branch, for a tensor of the graph around it, is out of
    scope everywhere else. So what is known of a tensor is kept on tensors of the current graph
    only. An eager tensor, such as a constant, belongs to no graph.
    """
    if tf.executing_eagerly():
        return True
    graph = tf.compat.v1.get_default_graph()
    return tf.is_symbolic_tensor(x) and x.graph is graph


def in_scope(x):
    """Returns `x` as a tensor of the graph that is being traced now.

    The gradient of a branch or a loop body may use tensors of that body, but not the tensors of
    the graph around it that the body took in.
    """
    x = tf.convert_to_tensor(x)
    return x if is_in_scope(x) else tf.identity(x)


def as_written(function, *args, **kwargs):
    """See `Backend.as_written`: AutoGraph would rewrite it."""
    return tf.autograph.experimental.do_not_convert(function)(*args, **kwargs)


_wrappers = Wrappers()


def install():
    """Wraps TensorFlow's functions. Calling it again changes nothing."""
    _wrappers.wrap(parallel_for, "_pfor_impl", _vectorizing, parameters=("loop_fn",))
    _wrappers.wrap(function_context, "make_function_context", _apart, parameters=("scope_type",))
    _wrappers.wrap(
        save, "_trace_gradient_functions", _refusing_to_save_gradients, parameters=("graph",)
    )
    _wrappers.wrap(save, "_build_meta_graph", _refusing_to_save, parameters=("obj",))
    for name in (
        "convert_variables_to_constants_v2",
        "convert_variables_to_constants_v2_as_graph",
    ):
        _wrappers.wrap(convert_to_constants, name, _refusing_to_freeze, parameters=("func",))


def uninstall():
    """Undoes `install`."""
    _wrappers.undo()


def _vectorizing(original, *args, **kwargs):
    with _vectorized.context():
        return original(*args, **kwargs)


def _apart(original, scope_type=None):
    """A `tf.function` is traced again where its layers compute in float32: they might have been
    traced with kernels before."""
    context = original(scope_type)
    reason = refusal() or (wants_float32() and "float32")
    return context._replace(scope_type=(context.scope_type, reason)) if reason else context


def _refusing_to_save_gradients(original, graph, *args):
    _refuse_kernels(graph.as_graph_def(), _SAVED)
    return original(graph, *args)


def _refusing_to_save(original, *args, **kwargs):
    """Gradients need not be saved."""
    result = original(*args, **kwargs)
    _refuse_kernels(result[0].graph_def, _SAVED)
    return result


def _refusing_to_freeze(original, func, *args, **kwargs):
    _refuse_kernels(func.graph.as_graph_def(), _FROZEN)
    return original(func, *args, **kwargs)


def _refuse_kernels(graph_def, what):
    functions = graph_def.library.function
    nodes = (*graph_def.node, *(node for function in functions for node in function.node_def))
    if any(node.name.split("/")[-1].startswith(KERNEL_NAME) for node in nodes):
        raise ValueError(
            f"{what} must hold TensorFlow's own operations only, got one that calls the integer "
            "kernels of dfpkeras, which no other process can. Trace it again within "
            "`with dfpkeras.float32_only():`, or use `model.export(path)`."
        )

"""How TensorFlow runs functions of NumPy arrays."""

import functools
import threading

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import script_ops

from dfpkeras import _native
from dfpkeras.backend.tensorflow.tracing import KERNEL_NAME
from dfpkeras.runtime import kernel_observers
from dfpkeras.runtime.wrapping import Wrappers

_this_thread = threading.local()
_wrappers = Wrappers()


def install():
    """Wraps a function of TensorFlow. Calling it again changes nothing."""
    _wrappers.wrap(script_ops.FuncRegistry, "_convert", _returned, parameters=("value", "dtype"))


def uninstall():
    """Undoes `install`."""
    _wrappers.undo()


def call(function, operands, dtypes):
    """See `Backend.call`; in graphs, a stateless operation.

    TensorFlow's threads flush subnormal numbers to zero. In graphs, returned arrays are used
    without a copy if they are 64-byte aligned.
    """
    if isinstance(operands, dict):
        function = functools.partial(_by_name, function, tuple(operands))
        operands = list(operands.values())
    if tf.executing_eagerly():
        # A memoryview avoids the copy that `tf.numpy_function` makes of eager inputs.
        arrays = (np.asarray(memoryview(x)) for x in operands)
        results = _call(kernel_observers.owner(), function, *arrays)
        return [tf.convert_to_tensor(result) for result in results]
    function = functools.partial(_run, kernel_observers.owner(), function)
    return tf.numpy_function(function, operands, dtypes, stateful=False, name=KERNEL_NAME)


def _run(owner, function, *arrays):
    """Calls `function` on a thread of TensorFlow, which keeps its Python state from then on.

    Creating that state for each of its 107 calls took a tenth of a prediction of ResNet-50 at batch
    1 (27.5 against 24.5 ms, AVX-512).
    """
    if not hasattr(_this_thread, "keeps_state"):
        _native.keep_thread_state()
        _this_thread.keeps_state = True
    return _call(owner, function, *arrays)


def _call(owner, function, *arrays):
    call = _native.call_in_default_float_environment
    if kernel_observers.observers:
        return kernel_observers.run_observed(owner, call, function, *arrays)
    return call(function, *arrays)


def _by_name(function, names, *arrays):
    return function(**dict(zip(names, arrays, strict=True)))


def _returned(original, value, dtype=None):
    """What a callback returned, as TensorFlow takes it: an array of numbers as it is.

    TensorFlow parses NumPy's version number for each of them: 6.5 µs (Zen 4), a thousand times in a
    step of MobileNetV2.
    """
    is_plain = dtype is None and type(value) is np.ndarray and value.dtype.kind in "iuf"
    return value if is_plain and value.flags.c_contiguous else original(value, dtype)

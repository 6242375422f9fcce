"""A context in which the layers of the policy "dfp16" compute in float32."""

import contextlib
import threading

_this_thread = threading.local()


@contextlib.contextmanager
def float32_only():
    """Within this context, in this thread, every layer computes in float32.

    For what runs elsewhere: a function traced here holds TensorFlow's own operations alone, so it
    can be saved, frozen or converted, and runs in a process without dfpkeras::

        with dfpkeras.float32_only():
            function = tf.function(model).get_concrete_function(tf.TensorSpec((None, 28, 28, 1)))
        tf.saved_model.save(model, path, signatures=function)
    """
    outer = is_float32_only()
    _this_thread.float32_only = True
    try:
        yield
    finally:
        _this_thread.float32_only = outer


def is_float32_only():
    """Whether this thread is within `float32_only`."""
    return getattr(_this_thread, "float32_only", False)

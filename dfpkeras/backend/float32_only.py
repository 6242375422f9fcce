"""A context in which the layers of the policy "dfp16" compute in float32."""

import contextlib
import threading


class ThreadFlag:
    """Whether the running thread is within a context."""

    def __init__(self):
        self._of_thread = threading.local()

    @property
    def is_set(self):
        """bool, for the thread that asks."""
        return getattr(self._of_thread, "is_set", False)

    @contextlib.contextmanager
    def context(self):
        """Sets the flag in this thread; contexts nest."""
        outer = self.is_set
        self._of_thread.is_set = True
        try:
            yield
        finally:
            self._of_thread.is_set = outer


_float32_only = ThreadFlag()


def float32_only() -> contextlib.AbstractContextManager:
    """Returns a context within which, in this thread, every layer computes in float32.

    A function traced here holds only TensorFlow's own operations, so it can be saved, frozen or
    converted, and runs in a process without dfpkeras::

        with dfpkeras.float32_only():
            function = tf.function(model).get_concrete_function(tf.TensorSpec((None, 28, 28, 1)))
        tf.saved_model.save(model, path, signatures=function)
    """
    return _float32_only.context()


def is_float32_only():
    """Whether this thread is within `float32_only`."""
    return _float32_only.is_set

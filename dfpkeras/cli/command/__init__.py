"""Entry point of the command ``dfpkeras``.

It is installed as ``dfpkeras_command``, a package of its own, because importing ``dfpkeras``
imports Keras and TensorFlow, and the command has to come before that: to say what is missing, and
to keep TensorFlow's start-up messages off the terminal.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
INTERRUPTED = 130


def main():
    """Runs the command and returns its exit code."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend == "tensorflow" and importlib.util.find_spec("tensorflow") is None:
        print(
            "dfpkeras: error: tensorflow is not installed; needed is the extra train: "
            'pip install "dfpkeras[train]"',
            file=sys.stderr,
        )
        return 2
    try:
        with _tensorflow_kept_quiet():
            from dfpkeras.cli.main import main as run

            _start_tensorflow()
    except KeyboardInterrupt:
        return INTERRUPTED
    return run()


def _start_tensorflow():
    """Looks for devices now, since a missing GPU is reported at first use.

    Devices are listed, not set up: `dfpkeras bench` sets TensorFlow's threads before that.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _tensorflow_kept_quiet():
    """Sets standard error aside, and shows what came there only after an exception.

    Some of TensorFlow's messages (oneDNN, missing CUDA) come before it looks at
    TF_CPP_MIN_LOG_LEVEL, so setting that is not enough. If the user has set it, nothing is hidden.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    os.environ[LOG_LEVEL] = "2"
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            messages.seek(0)
            os.write(terminal, messages.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)

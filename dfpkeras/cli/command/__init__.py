"""Entry point of the command ``dfpkeras``.

It is installed as ``dfpkeras_command``, a separate package, because importing ``dfpkeras``
imports Keras and TensorFlow, and the command has to run before that: to say what is missing, and to
keep TensorFlow's start-up messages off the terminal.
"""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
INTERRUPTED = 130


class StartError(Exception):
    """The command cannot start; the message is all the user needs to see."""


def main():
    """Runs the command and returns its exit code."""
    _open_closed_streams()
    try:
        with _tensorflow_kept_quiet():
            run = _load()
    except KeyboardInterrupt:
        return INTERRUPTED
    except StartError as error:
        with contextlib.suppress(OSError):
            print(f"dfpkeras: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    return run()


def _open_closed_streams():
    """Opens the null device in place of standard streams that are closed (``>&-`` in a shell).

    Otherwise the next file to be opened, such as a checkpoint, would get the stream's descriptor,
    and with it what libraries print.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def _load():
    """Imports everything and returns the command's function.

    Raises:
        StartError: something cannot be imported: a package is missing or broken, or an environment
            variable has a value that makes no sense.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend == "tensorflow" and importlib.util.find_spec("tensorflow") is None:
        raise StartError(
            'tensorflow is not installed; install the extra train: pip install "dfpkeras[train]"'
        )
    try:
        import keras
    except Exception as error:
        raise StartError(
            f"Keras cannot be imported: {_reason(error)} (its settings: {_keras_settings()})"
        ) from error
    try:
        from dfpkeras.cli.main import main

        _start_tensorflow(keras.backend.backend())
    except Exception as error:
        raise StartError(_reason(error)) from error
    return main


def _reason(error):
    # The message of a ValueError is enough: that is how a wrong environment variable is refused.
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _keras_settings():
    """Where Keras' settings come from, in order of precedence."""
    folder = os.environ.get("KERAS_HOME") or "~/.keras"
    path = Path(folder).expanduser() / "keras.json"
    variable = os.environ.get("KERAS_BACKEND")
    settings = [f"KERAS_BACKEND={variable}"] if variable else []
    return ", ".join([*settings, *([str(path)] if path.exists() else [])]) or "the default"


def _start_tensorflow(backend):
    """Looks for devices now, since a missing GPU is reported at first use.

    Devices are listed, not initialised: `dfpkeras bench` sets TensorFlow's threads before that.
    """
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _tensorflow_kept_quiet():
    """Drops what is written to standard error.

    Some of TensorFlow's messages (oneDNN, missing CUDA) come before it looks at
    TF_CPP_MIN_LOG_LEVEL, so setting that is not enough. If the user has set it, nothing is hidden.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    os.environ[LOG_LEVEL] = "2"
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    terminal = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)

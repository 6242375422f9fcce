"""From an exception to the one line that a user needs to see."""

import errno

from dfpkeras.cli.errors import CommandError
from dfpkeras.data.dataset import DataError
from dfpkeras.monitor.records import MonitorError
from dfpkeras.recipes import RecipeError

#: What PyTorch's RuntimeError says when there is no memory left.
_TORCH_OUT_OF_MEMORY = "can't allocate memory"

#: TensorFlow's errors for faults of files.
_TENSORFLOW_FAULTS = ("PermissionDeniedError", "DataLossError", "UnavailableError", "AbortedError")


def explain(error):
    """Returns what is wrong outside of dfpkeras, in one line, or None for any other exception.

    Args:
        error: an Exception that a command ended with.
    """
    if isinstance(error, CommandError | DataError | MonitorError | RecipeError):
        return _one_line(str(error))
    if is_out_of_memory(error):
        return f"out of memory{_requested(error)}; a smaller batch or smaller images need less"
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("dfpkeras"):
        return f"{error.name} is not installed, which is needed here"
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if type(error).__name__ in _TENSORFLOW_FAULTS:
        return _one_line(error.message)
    return None


def is_out_of_memory(error):
    """Tells whether an exception, or what it was raised from, is an out-of-memory error.

    Python, NumPy and the kernels raise a MemoryError, TensorFlow a ResourceExhaustedError (also
    for the kernels' MemoryError in a graph), PyTorch a RuntimeError, the system an OSError.
    """
    while error is not None:
        if (
            isinstance(error, MemoryError)
            or type(error).__name__ == "ResourceExhaustedError"
            or (isinstance(error, RuntimeError) and _TORCH_OUT_OF_MEMORY in str(error))
            or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _requested(error):
    """What the memory was for, if the message says so: TensorFlow's is many lines long."""
    for line in str(error).splitlines():
        for beginning in ("OOM when allocating ", "Unable to allocate ", "MemoryError: dfpkeras: "):
            _, found, rest = line.partition(beginning)
            if found:
                return f" ({_one_line(beginning.removeprefix('MemoryError: ') + rest)})"
    return ""


def _explain_os_error(error):
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return _one_line(": ".join([*names, error.strerror or str(error) or type(error).__name__]))


def _one_line(text):
    return " ".join(text.split())

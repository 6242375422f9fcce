"""Files that are either whole or not there."""

import contextlib
import os

PARTIAL = ".partial-"


def write_atomically(path, write, error_type):
    """Lets ``write`` make a file under a temporary name, and gives it its own when it is whole.

    When this returns, the file is on disk, name and all; when it raises, the file of that name is
    the one that was there before.

    Args:
        path: ``pathlib.Path``.
        write: function of the temporary path.
        error_type: exception to raise, with a message, if the file cannot be written.

    Raises:
        error_type: the file cannot be written, for instance because the disk is full.
    """
    temporary = path.with_name(PARTIAL + path.name)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = _find_os_error(error)
        if reason is None or not isinstance(error, Exception):
            raise
        raise error_type(f"{path}: cannot be written: {reason.strerror or reason}") from error


def _sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_os_error(error):
    """The OSError behind an exception: an archive that cannot be closed hides it behind its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error

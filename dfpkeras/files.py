"""Files that are written atomically, and directories with one writer at a time."""

import contextlib
import errno
import fcntl
import os
import stat

PARTIAL = ".partial-"


def write_atomically(path, write, error_type):
    """Lets ``write`` make a file under a temporary name, and renames it when it is complete.

    When this returns, the file and its name are on disk; when it raises, an earlier file of that
    name is unchanged.

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


def read_regular_file(path):
    """Returns the bytes of a file; does not wait for a pipe in its place.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read()


@contextlib.contextmanager
def hold_directory(path, occupied):
    """Creates a directory if necessary, and keeps other processes out of it, also after a crash.

    Args:
        path: ``pathlib.Path``.
        occupied: exception to raise if another process holds it.

    Raises:
        OSError: it cannot be created.
    """
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _lock(descriptor, occupied)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor, occupied):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise occupied from None
    except OSError:
        # The file system has no locks.
        return


def _sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_os_error(error):
    """The OSError that caused an exception: an archive that cannot be closed raises its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error

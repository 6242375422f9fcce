"""Standard output and standard error whose failure does not end the command."""

import contextlib
import os
import sys


class Output:
    """A text stream that drops what cannot be written.

    A closed pipe, a full disk under a log file or a terminal that is gone end the output, not the
    command; the first loss is reported on standard error. Characters that the stream's encoding
    does not have are written as escapes.

    Args:
        stream: text stream, or None for one that was closed from the beginning.
        name: name for the message.

    Attributes:
        lost: the OSError of the first write that failed, or None.
    """

    def __init__(self, stream, name):
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 - as long as the process
        self._name = name
        self.lost = None

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        """Writes a str and returns its length."""
        with self._losing_output():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                escaped = text.encode(error.encoding, "backslashreplace")
                self._stream.write(escaped.decode(error.encoding))
        return len(text)

    def writelines(self, lines):
        """Writes several str."""
        for line in lines:
            self.write(line)

    def flush(self):
        """Writes what is buffered."""
        with self._losing_output():
            self._stream.flush()

    @contextlib.contextmanager
    def _losing_output(self):
        try:
            yield
        except OSError as error:
            self._drop_the_rest()
            if self.lost is None:
                self.lost = error
                self._tell(error)

    def _drop_the_rest(self):
        """Also what is buffered, and what libraries write without Python."""
        with contextlib.suppress(OSError), open(os.devnull, "w") as null:
            os.dup2(null.fileno(), self._stream.fileno())

    def _tell(self, error):
        if self._name != "standard error":
            print(
                f"dfpkeras: warning: {self._name}: {error.strerror}; continuing without it",
                file=sys.stderr,
            )


@contextlib.contextmanager
def tolerant_streams():
    """Replaces ``sys.stdout`` and ``sys.stderr`` by streams whose failures lose only their output.

    Yields:
        The ``Output`` that is standard output meanwhile.
    """
    before = sys.stdout, sys.stderr
    sys.stderr = Output(sys.stderr, "standard error")
    sys.stdout = Output(sys.stdout, "standard output")
    try:
        yield sys.stdout
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before

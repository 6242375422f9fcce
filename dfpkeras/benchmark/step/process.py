"""The other end of a worker: starts it, asks it, and ends it."""

import multiprocessing
import os
import subprocess
import sys
import tempfile

from dfpkeras.benchmark.step.case import ModelError

_WORKER = "dfpkeras.benchmark.step.worker"


class ContenderError(Exception):
    """A contender cannot continue; the message says why."""


class ContenderProcess:
    """A contender in its own process. It computes only on request.

    Args:
        contender: `Contender`.
        case: `Case`.
        time_limit: seconds that it may take for an answer.
    """

    def __init__(self, contender, case, time_limit):
        self.contender = contender
        self._time_limit = time_limit
        self._connection, theirs = multiprocessing.Pipe()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            # Without the current folder before what is installed.
            [sys.executable, "-P", "-m", _WORKER, str(theirs.fileno())],
            env=_environment(contender),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection.send((contender, case))

    def ask(self, method, *arguments):
        """Calls a method of `dfpkeras.benchmark.step.worker.Worker`.

        Returns:
            What the method returned.

        Raises:
            ModelError: the requested model is not available.
            ContenderError: the method failed, took too long, or the process ended.
        """
        try:
            self._connection.send((method, *arguments))
            if not self._connection.poll(self._time_limit):
                raise ContenderError(f"over {self._time_limit:g} s")
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ContenderError(f"its process ended: {self._ending()}") from error
        if kind == "model error":
            raise ModelError(value)
        if kind == "error":
            raise ContenderError(value)
        return value

    def end(self):
        """Ends the process, whatever it does. Further calls do nothing."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._messages.close()

    def _ending(self):
        """How the process ended, and the last line that it wrote on standard error."""
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        return f"{f'exit code {code}' if code >= 0 else f'signal {-code}'}: {last.strip()}"


def _environment(contender):
    """That of this process, with the same modules to import, for the contender's backend."""
    return os.environ | {
        "KERAS_BACKEND": contender.backend,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }

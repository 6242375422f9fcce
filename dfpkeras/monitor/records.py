"""monitor.csv: the rows of all sampled steps."""

import csv
import io

from dfpkeras.files import read_regular_file, write_atomically
from dfpkeras.monitor.rows import NUMBERS, Row

NAME = "monitor.csv"


class MonitorError(Exception):
    """A monitor.csv cannot be read or written; the message says why."""


class Records:
    """The file of a monitor. All rows of a step are appended at once; what a process that was
    killed left incomplete is dropped by whoever reads or continues the file.

    Args:
        path: ``pathlib.Path``.
    """

    def __init__(self, path):
        self.path = path

    def continue_from(self, step):
        """Drops the rows of later steps, which will be repeated, and creates the file if there is
        none.

        Raises:
            MonitorError: it is something else than a monitor's file, or cannot be written.
        """
        kept = [row for row in self.read() if row.step <= step] if self.path.exists() else []
        text = _text([Row._fields, *kept])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MonitorError(f"{self.path}: cannot be written: {error.strerror}") from error
        write_atomically(self.path, lambda path: path.write_text(text, "utf-8"), MonitorError)

    def append(self, rows):
        """Appends a list of `Row`.

        Raises:
            MonitorError: they cannot be written.
        """
        try:
            with open(self.path, "ab") as file:
                _append(file, rows)
        except OSError as error:
            raise MonitorError(f"{self.path}: cannot be written: {error.strerror}") from error

    def read(self):
        """Returns the list of `Row`, without a last line that is incomplete.

        Raises:
            MonitorError: the file cannot be read, or is none of a monitor.
        """
        try:
            return list(_parse(read_regular_file(self.path).decode()))
        except OSError as error:
            raise MonitorError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, csv.Error) as error:
            raise MonitorError(
                f"{self.path}: cannot be read: it is not, or no longer, what a monitor writes"
            ) from error


def _append(file, rows):
    """All of them or none."""
    before = file.tell()
    header = [] if before else [Row._fields]
    try:
        file.write(_text([*header, *rows]).encode())
        file.flush()
    except OSError:
        file.truncate(before)
        raise


def _text(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _parse(text):
    complete = text[: text.rfind("\n") + 1]
    lines = csv.reader(io.StringIO(complete, newline=""), strict=True)
    if tuple(next(lines, ())) != Row._fields:
        raise ValueError
    for line in lines:
        cells = dict(zip(Row._fields, line, strict=True))
        for name, parse in NUMBERS.items():
            cells[name] = parse(cells[name]) if cells[name] else None
        yield Row(**cells)

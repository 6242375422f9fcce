"""Reading TFRecords of images back, to find records that training could not use."""

import concurrent.futures
import contextlib
import dataclasses
import sys
import warnings
from collections import Counter

from dfpkeras.data.completeness import find_count_fault, find_file_faults
from dfpkeras.data.dataset import DataError
from dfpkeras.data.layout import SPLITS, find_layout
from dfpkeras.data.manifest import require_finished
from dfpkeras.data.tfrecords import list_files, name_record, read_records, scan_records


@dataclasses.dataclass
class SplitReport:
    """What the files of a split hold.

    Attributes:
        name: name of the split.
        first_label: label of the first class.
        num_files: how many files there are.
        num_records: usable records.
        class_counts: usable records by label, as stored.
        heights, widths: lowest and highest of the decodable images, in pixels; None without any.
        num_turned: usable records whose EXIF orientation is not upright. Training does not apply
            it.
        faults: a line for each fault: file, record and what is wrong.
    """

    name: str
    first_label: int
    num_files: int = 0
    num_records: int = 0
    class_counts: Counter = dataclasses.field(default_factory=Counter)
    heights: tuple[int, int] | None = None
    widths: tuple[int, int] | None = None
    num_turned: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)

    def missing_labels(self, num_classes):
        """Returns the labels of the classes without a usable record."""
        labels = range(self.first_label, self.first_label + num_classes)
        return [label for label in labels if not self.class_counts[label]]

    def add(self, other):
        """Adds what was found in another file."""
        self.num_files += other.num_files
        self.num_records += other.num_records
        self.class_counts += other.class_counts
        self.heights = _join(self.heights, other.heights)
        self.widths = _join(self.widths, other.widths)
        self.num_turned += other.num_turned
        self.faults += other.faults


def check_directory(directory, num_classes, workers, on_bytes=lambda num_bytes: None):
    """Reads every record of both splits with its checksums, and decodes every image.

    Files are compared with the conversion they come from, or else with the numbers in their names.
    An image for which libjpeg gives only a warning is a fault, too.

    Args:
        directory: holds files of one of the two layouts.
        num_classes: labels must be in ``1..num_classes`` (TFDS: ``0..num_classes - 1``).
        workers: number of threads.
        on_bytes: function called, from any thread, with the size of each record that was read.

    Returns:
        A ``SplitReport`` of "train" and one of "validation".

    Raises:
        DataError: there are no files, or they belong to an unfinished conversion.
    """
    layout = find_layout(directory)
    manifest = require_finished(directory)
    paths = {split: list_files(directory, split, layout) for split in SPLITS}
    reports = []
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(workers) as pool:
        # Pillow's warnings about EXIF data.
        warnings.simplefilter("ignore")
        for split in SPLITS:
            faults = find_file_faults(paths[split], split, manifest)
            report = SplitReport(split, layout.first_label, faults=faults)
            checks = [
                _FileCheck(path, layout, num_classes, manifest, on_bytes) for path in paths[split]
            ]
            for part in pool.map(_FileCheck.run, checks):
                report.add(part)
            reports.append(report)
    return reports


def total_bytes(directory):
    """Returns the size of all files of both splits."""
    layout = find_layout(directory)
    paths = [path for split in SPLITS for path in layout.list_files(directory, split)]
    return sum(path.stat().st_size for path in paths)


class _FileCheck:
    """Checks one file; arguments as for ``check_directory`` and ``find_file_faults``."""

    def __init__(self, path, layout, num_classes, manifest, on_bytes):
        self._path = path
        self._layout = layout
        self._num_classes = num_classes
        self._manifest = manifest
        self._on_bytes = on_bytes
        self._report = SplitReport(path.name, layout.first_label, num_files=1)

    def run(self):
        """Returns a ``SplitReport`` of the file."""
        for number, record in self._records():
            self._on_bytes(len(record))
            try:
                self._check(record)
            except DataError as error:
                self._report.faults.append(f"{name_record(self._path, number)}: {error}")
        return self._report

    def _records(self):
        """Yields the records up to the first one that is damaged."""
        try:
            count = scan_records(self._path).num_records
        except DataError as error:
            self._report.faults.append(str(error))
            with contextlib.suppress(DataError):
                yield from read_records(self._path, sys.maxsize)
            return
        if fault := find_count_fault(self._path, count, self._manifest):
            self._report.faults.append(fault)
        number = -1
        try:
            for number, record in read_records(self._path, count):
                yield number, record
        except DataError as error:
            after = count - number - 2
            self._report.faults.append(f"{error}; the {after} records after it were not read")

    def _check(self, record):
        encoded, label = self._layout.read(record)
        self._layout.check_label(label, self._num_classes)
        header = self._layout.check_image(encoded)
        self._report.num_records += 1
        self._report.class_counts[label] += 1
        self._report.heights = _join(self._report.heights, (header.height,) * 2)
        self._report.widths = _join(self._report.widths, (header.width,) * 2)
        self._report.num_turned += header.orientation != 1


def _join(first, second):
    """Returns the range that covers two ranges, either of which may be None."""
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), max(first[1], second[1])

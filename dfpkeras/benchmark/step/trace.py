"""Where the time of a step goes, from TensorFlow's profiler.

The profiler records when each operation ran, on whatever thread. An operation belongs to the layer
whose name is in its own; the kernels of this package run in Python callbacks, which carry the name
that `dfpkeras.ops.kernel_hits.hits` counts them by.

Operations overlap. While n of them run at once, each is charged with 1/n of that time, so that
times add up to the time in which any operation ran; an operation that waits for another one's
threads counts as running. What remains of the step is `BETWEEN`: Python, scheduling and waiting.
"""

import bisect
import collections
import contextlib
import re
import tempfile
import time
from pathlib import Path

import tensorflow as tf

from dfpkeras.benchmark.step.layer_kinds import (
    BETWEEN,
    all_kinds,
    kind_of_kernel,
    kind_of_operation,
    kinds_of_layers,
)
from dfpkeras.ops.kernel_hits import hits

_MARK = "dfpkeras kernel "
# "scope/name:Type"; what else is in a trace has spaces or two colons in its name.
_OPERATION_NAME = re.compile(r"([\w./>-]+):(\w+)")
_PICOSECONDS = 1e-12


def profile(run, model, steps=1):
    """Measures where the time of a step goes.

    Args:
        run: function without arguments that runs a step of `model`.
        model: `keras.Model` on the TensorFlow backend that has run before.
        steps: number of steps to average over.

    Returns:
        A dict from each of `all_kinds` and `BETWEEN` to seconds; they add up to the time of a step
        under the profiler.
    """
    with tempfile.TemporaryDirectory() as directory:
        with _kernels_marked(), _profiler(directory):
            start = time.perf_counter()
            for _ in range(steps):
                run()
            elapsed = time.perf_counter() - start
        intervals = list(_intervals(_read(directory), kinds_of_layers(model)))
    seconds = shared_time(intervals)
    result = {kind: seconds.get(kind, 0.0) / steps for kind in all_kinds()}
    return result | {BETWEEN: max(elapsed / steps - sum(result.values()), 0.0)}


def shared_time(intervals):
    """Sums intervals by kind, sharing the time in which several run equally among them.

    Args:
        intervals: list of (start, end, kind).

    Returns:
        A dict from each kind to a time. All of them together are the length of the union.
    """
    intervals = [interval for interval in intervals if interval[0] < interval[1]]
    changes = [(start, 1, kind) for start, _, kind in intervals]
    changes += [(end, -1, kind) for _, end, kind in intervals]
    total, running, before = collections.defaultdict(float), collections.Counter(), 0
    for now, change, kind in sorted(changes):
        count = running.total()
        for other, number in running.items():
            if number:
                total[other] += (now - before) * number / count
        running[kind] += change
        before = now
    return dict(total)


@contextlib.contextmanager
def _kernels_marked():
    """Puts the name of each kernel of this package into the trace, within its callback."""

    def mark(name):
        with tf.profiler.experimental.Trace(_MARK + name):
            pass

    hits.observer = mark
    try:
        yield
    finally:
        hits.observer = None


@contextlib.contextmanager
def _profiler(directory):
    tf.profiler.experimental.start(directory)
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


def _read(directory):
    """The threads of a trace: for each, a list of (start, end, name)."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for path in Path(directory).rglob("*.xplane.pb"):
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            for line in plane.lines:
                yield [_event(plane, line, event) for event in line.events]


def _event(plane, line, event):
    start = line.timestamp_ns * 1e-9 + event.offset_ps * _PICOSECONDS
    name = plane.event_metadata[event.metadata_id].name
    return start, start + event.duration_ps * _PICOSECONDS, name


def _intervals(threads, layer_kinds):
    for events in threads:
        marks = sorted((start, name) for start, _, name in events if name.startswith(_MARK))
        for start, end, name in events:
            match = _OPERATION_NAME.fullmatch(name)
            if match is None:
                continue
            following = bisect.bisect_left(marks, (start,))
            if following < len(marks) and marks[following][0] < end:
                yield start, end, kind_of_kernel(marks[following][1].removeprefix(_MARK))
            else:
                yield start, end, kind_of_operation(*match.groups(), layer_kinds)

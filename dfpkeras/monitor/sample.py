"""The observer of the kernels of one model in one step."""

import collections
import math
import threading
import typing
import weakref

from dfpkeras.integration.policy import number_format_of
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.kernels.measurement import Measurement, measure
from dfpkeras.monitor.rows import ROLES, row_of_product, row_of_tensor


class Sample:
    """An observer (`dfpkeras.runtime.kernel_observers`) that collects what a monitor records.

    Args:
        paths: mapping from layers to their paths; kernels of other layers are ignored.
    """

    def __init__(self, paths):
        self._paths = paths
        self._lock = threading.Lock()
        self._multiplied = {}
        self._made = {}
        self._algorithms = collections.defaultdict(list)
        self._counts = collections.defaultdict(lambda: (0, 0, 0))
        # What was measured of integers that were made in this step, as long as their memory is not
        # used for others: a backend refers to an array as long as it uses its memory.
        self._known = {}

    def watch(self, owner):
        """Returns a `_Watcher` of the kernel that begins in this thread, None if its layer is none
        of this model."""
        layer = None if owner is None else owner()
        return _Watcher(self, layer) if layer is not None and layer in self._paths else None

    def rows(self, step):
        """Returns the list of `Row`, in the order of the layers."""
        with self._lock:
            tensors = self._made | self._multiplied
            algorithms, counts = dict(self._algorithms), dict(self._counts)
        rows = []
        for layer, path in self._paths.items():
            for role in ROLES:
                if (layer, role) in tensors:
                    rows.append(row_of_tensor(step, path, role, tensors[layer, role]))
            for direction in DIRECTIONS:
                key = layer, direction
                if key in counts:
                    rows.append(row_of_product(step, path, direction, algorithms[key], counts[key]))
        return rows

    def made(self, layer, tensor, tensor_format, source):
        """A kernel of `layer` made a `DFPTensor`."""
        measurement = measure(tensor, tensor_format.bits, tensor_format.rounding, source)
        with self._lock:
            self._known[_key(tensor.data)] = _Known(weakref.ref(tensor.data), measurement)
            _keep_worse(self._made, (layer, tensor_format.role), measurement)

    def multiplies(self, layer, role, tensor):
        """A kernel of `layer` reads a `DFPTensor`, often one that was made in this step."""
        known = self._known.get(_key(tensor.data))
        if known is not None and known.array() is not None:
            measurement = known.measurement
        else:
            formats = number_format_of(layer)
            bits = {"activation": formats.activation, "weights": formats.weights}
            measurement = measure(tensor, bits.get(role, formats.gradient).bits, formats.rounding)
        with self._lock:
            _keep_worse(self._multiplied, (layer, role), measurement)

    def multiplied(self, layer, direction, algorithm, counts):
        """A kernel of `layer` computed a product."""
        key = layer, direction
        with self._lock:
            self._algorithms[key].append(algorithm)
            self._counts[key] = tuple(map(sum, zip(self._counts[key], counts, strict=True)))


class _Known(typing.NamedTuple):
    array: weakref.ref
    measurement: Measurement


class _Watcher:
    """What is told of one kernel."""

    def __init__(self, sample, layer):
        self._sample = sample
        self._layer = layer
        self._direction = None

    def began(self, name):
        of_name = (direction for direction in DIRECTIONS if name.endswith(direction))
        self._direction = next(of_name, self._direction)

    def quantized(self, tensor, tensor_format, source):
        self._sample.made(self._layer, tensor, tensor_format, source)

    def multiplies(self, role, tensor):
        self._sample.multiplies(self._layer, role, tensor)

    def multiplied(self, algorithm, *counts):
        self._sample.multiplied(self._layer, self._direction, algorithm, counts)


def _keep_worse(measurements, key, new):
    """Of several tensors of one role the one with the fewest useful bits: NaN is worst where it
    stands for NaN."""
    before = measurements.get(key)
    if before is None or _rank(new) < _rank(before):
        measurements[key] = new


def _rank(measurement):
    if math.isnan(measurement.largest):
        return -math.inf
    return math.inf if math.isnan(measurement.useful_bits) else measurement.useful_bits


def _key(array):
    """Equal for two arrays of integers that exist at the same time only if they are the same."""
    return array.__array_interface__["data"][0], array.size

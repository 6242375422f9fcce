"""A whole comparison: networks, directions, contenders."""

import dataclasses
import platform
import statistics

import numpy as np

from dfpkeras import get_num_threads, kernels
from dfpkeras.benchmark.environment import speed_variables
from dfpkeras.benchmark.integer_kernels import IntegerKernels
from dfpkeras.benchmark.measure import OURS, measure_layer
from dfpkeras.benchmark.peak import Peak, measure_peak
from dfpkeras.benchmark.peers import find_peers
from dfpkeras.benchmark.quantization import measure_quantization
from dfpkeras.benchmark.quietness import Quietness, sample_quietness
from dfpkeras.benchmark.totals import sum_network


@dataclasses.dataclass(frozen=True)
class Results:
    """What a comparison found.

    Attributes:
        networks: dict from the name of each network to its layers, see `networks.NETWORKS`.
        batch_size, seconds: as asked for.
        machine: `dfpkeras.kernels.info()`.
        versions: dict from the name of each contender, and of Python and NumPy, to its version.
        missing: dict from the name of each peer that is missing altogether to the reason.
        peak: see `measure_peak`.
        quietness: `Quietness`, sampled before and after each layer and direction.
        quantization: see `measure_quantization`.
        measurements: list of `Measurement`, each layer and direction once.
        totals: list of `Total`.
    """

    networks: dict
    batch_size: int
    seconds: float
    machine: dict
    versions: dict
    missing: dict
    peak: Peak
    quietness: Quietness
    quantization: dict
    measurements: list
    totals: list

    @property
    def contenders(self):
        """Names of all contenders, ours first."""
        return [name for name in self.versions if name not in ("python", "numpy")]

    def of_network(self, network, direction):
        """The measurements of a network's layers in one direction, in the network's order."""
        found = {m.layer: m for m in self.measurements if m.direction == direction}
        return [found[layer] for layer in self.networks[network] if layer in found]

    def as_dict(self):
        """Everything, in types that JSON knows. Times are in seconds."""
        return {
            "batch_size": self.batch_size,
            "seconds_per_shape": self.seconds,
            "machine": self.machine,
            "environment": speed_variables(),
            "versions": self.versions,
            "missing": self.missing,
            "peak_gmacs_per_second": dataclasses.asdict(self.peak),
            "quietness": self.quietness.as_dict(),
            "quantization": self.quantization,
            "measurements": [self._measurement(m) for m in self.measurements],
            "totals": [dataclasses.asdict(t) | {"ratio": t.ratio} for t in self.totals],
        }

    def _measurement(self, m):
        return {
            "label": m.layer.label,
            "kind": m.layer.kind,
            "geometry": dataclasses.asdict(m.layer),
            "occurrences": {
                name: layers[m.layer] for name, layers in self.networks.items() if m.layer in layers
            },
            "direction": m.direction,
            "macs": m.macs,
            "contenders": {name: _contender(m, name) for name in m.seconds},
            "left_out": m.left_out,
            "better_peer": m.better_peer,
            "ratio": m.ratio,
            "percent_of_peak": 100 * m.gmacs_per_second(OURS) / self.peak.micro_kernel,
        }


def run_suite(networks, directions, batch_size, seconds, track=iter):
    """Measures every distinct layer of some networks once in every direction.

    Args:
        networks: dict from a name to the network's layers, see `networks.NETWORKS`.
        directions: some of `DIRECTIONS`.
        batch_size: images.
        seconds: time to spend on each layer and direction, warm-up excluded.
        track: passes on the list of (layer, direction) that is iterated over, for showing progress.

    Returns:
        `Results`.
    """
    peers, missing = find_peers(get_num_threads())
    contenders = [IntegerKernels(), *peers]
    layers = dict.fromkeys(layer for network in networks.values() for layer in network)
    tasks = [(layer, direction) for direction in directions for layer in layers]
    measurements, samples = [], [sample_quietness()]
    for layer, direction in track(tasks):
        measurements.append(measure_layer(contenders, layer, direction, batch_size, seconds))
        samples.append(sample_quietness())
    versions = {contender.name: contender.version for contender in contenders}
    return Results(
        networks=networks,
        batch_size=batch_size,
        seconds=seconds,
        machine=kernels.info(),
        versions=versions | {"python": platform.python_version(), "numpy": np.__version__},
        missing=missing,
        peak=measure_peak(),
        quietness=Quietness(samples),
        quantization=measure_quantization(seconds),
        measurements=measurements,
        totals=[
            total
            for name, network in networks.items()
            for total in sum_network(name, network, measurements)
        ],
    )


def _contender(measurement, name):
    times = measurement.seconds[name]
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return {
        "median": measurement.median(name),
        "quartiles": [low, high],
        "fastest": min(times),
        "calls": len(times),
        "gmacs_per_second": measurement.gmacs_per_second(name),
    }

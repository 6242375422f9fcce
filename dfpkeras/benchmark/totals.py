"""Sums over the layers of a network."""

import dataclasses
import statistics

from dfpkeras.benchmark.measure import OURS

#: Name of the row that sums over several directions.
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Total:
    """A network's convolutions, or its dense layers, in one direction or in several.

    Attributes:
        network: key of `dfpkeras.benchmark.networks.NETWORKS`.
        kind: "convolution" or "dense".
        direction: one of `DIRECTIONS`, or `ALL`.
        seconds: sum over all layers of our median.
        peer_seconds: the same of the better peer of each layer and direction; None if one of them
            has no peer.
        geometric_mean: geometric mean of the ratios of the distinct layers and directions; None
            likewise.
    """

    network: str
    kind: str
    direction: str
    seconds: float
    peer_seconds: float | None
    geometric_mean: float | None

    @property
    def ratio(self):
        """``peer_seconds / seconds``: above 1 we are faster. None without a peer."""
        return None if self.peer_seconds is None else self.peer_seconds / self.seconds


def sum_network(network, layers, measurements):
    """Sums the measurements of a network.

    Args:
        network: its name.
        layers: dict from each layer to the number of its occurrences.
        measurements: `Measurement`s of any layers and directions.

    Returns:
        A list of `Total`s: for convolutions and for dense layers one per direction, in the order
        of the measurements, and one for all if there are several.
    """
    totals = []
    for kind in ("convolution", "dense"):
        own = [m for m in measurements if m.layer in layers and m.layer.kind == kind]
        directions = list(dict.fromkeys(m.direction for m in own))
        for direction in directions:
            part = [m for m in own if m.direction == direction]
            totals.append(_sum(network, kind, direction, layers, part))
        if len(directions) > 1:
            totals.append(_sum(network, kind, ALL, layers, own))
    return totals


def _sum(network, kind, direction, layers, measurements):
    ours = sum(layers[m.layer] * m.median(OURS) for m in measurements)
    if any(m.better_peer is None for m in measurements):
        return Total(network, kind, direction, ours, None, None)
    peers = sum(layers[m.layer] * m.median(m.better_peer) for m in measurements)
    mean = statistics.geometric_mean(m.ratio for m in measurements)
    return Total(network, kind, direction, ours, peers, mean)

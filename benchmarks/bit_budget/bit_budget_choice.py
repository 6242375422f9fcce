"""The bits that the rule selects: as many as keep the mean proven run long in every direction."""

import itertools

from bit_budget_schedule import OPERANDS
from bit_budget_table import GRID, name_of

from dfpkeras.kernels.number_format import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS

#: The shortest mean run, in products, that the rule accepts.
SHORTEST_MEAN_RUN = 64
#: (activations, weights, gradients)
DEFAULT = (ACTIVATION_BITS, WEIGHT_BITS, GRADIENT_BITS)


def mean_runs(runs, candidate):
    """Returns the mean run of each direction in the network where it is shortest.

    Networks are taken at the end of their training: fresh weights have no outliers, so that their
    mean magnitude is close to the largest, and runs are shorter than they are later.

    Args:
        runs: data frame of `tabulate_runs`, of several networks.
        candidate: (activation bits, weight bits, gradient bits).

    Returns:
        A dict {direction: products}.
    """
    return _look_up(_shortest_runs(runs), candidate)


def _shortest_runs(runs):
    """The shortest mean run of any network, by direction and the bits of both operands."""
    keys = ["direction", "broadcast_bits", "packed_bits"]
    return at_end(runs).groupby(keys)["mean_run"].min().to_dict()


def _look_up(shortest, candidate):
    bits = dict(zip(GRID, candidate, strict=True))
    return {
        direction: shortest[direction, bits[broadcast], bits[packed]]
        for direction, (broadcast, packed) in OPERANDS.items()
    }


def at_end(table):
    """Returns the rows of the last snapshot of each network."""
    return table[table["step"] == table.groupby("network")["step"].transform("max")]


def most_bits(runs):
    """Returns the combinations that satisfy the rule with the largest sum of bits."""
    shortest = _shortest_runs(runs)
    allowed = [
        candidate
        for candidate in itertools.product(*GRID.values())
        if min(_look_up(shortest, candidate).values()) >= SHORTEST_MEAN_RUN
    ]
    largest = max(map(sum, allowed))
    return [candidate for candidate in allowed if sum(candidate) == largest]


def candidates_of(runs):
    """Returns what to measure: the outcome of the rule, and the default and its neighbours."""
    steps = [(0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    found = set(most_bits(runs))
    for sign, step in itertools.product((-1, 1), steps):
        found.add(tuple(bits + sign * more for bits, more in zip(DEFAULT, step, strict=True)))
    in_grid = [
        candidate
        for candidate in found
        if all(bits in GRID[role] for bits, role in zip(candidate, GRID, strict=True))
    ]
    return sorted(in_grid, key=lambda candidate: (sum(candidate), candidate))


def least_snr(results, candidate):
    """Returns the median signal-to-noise ratio of each direction in the noisiest network.

    Args:
        results: data frame of `tabulate_results`, of several networks.
        candidate: (activation bits, weight bits, gradient bits).

    Returns:
        A series over directions, in dB.
    """
    rows = at_end(results)
    chosen = rows[rows["format"] == name_of(candidate)]
    return chosen.groupby("direction", sort=False)["median"].min()


def measured_candidates(results):
    """Returns the combinations of bits in a data frame of `tabulate_results`."""
    names = [name for name in dict.fromkeys(results["format"]) if "/" in name]
    return [tuple(map(int, name.split("/"))) for name in names]


def choose(runs, results):
    """Returns the combination the rule selects; of several, the one whose noisiest result is
    best."""
    return max(most_bits(runs), key=lambda candidate: least_snr(results, candidate).min())

"""Whether anything else used the CPU while contenders were compared."""

import statistics
from dataclasses import dataclass

from dfpkeras.benchmark.measure import settle
from dfpkeras.benchmark.peak import run_bare_loop

_SAMPLE_SECONDS = 0.2
# Share of its best speed that the bare multiply-add loop must reach.
_LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Sample:
    """The bare multiply-add loop for a moment, in 10^9 multiply-adds a second.

    Attributes:
        typical: median of its calls.
        best: fastest of its calls.
    """

    typical: float
    best: float


@dataclass(frozen=True)
class Quietness:
    """Samples of the bare loop, taken before, between and after measurements.

    Attributes:
        samples: list of `Sample`.
    """

    samples: list

    @property
    def best(self):
        """The speed that this machine reached at its best."""
        return max(sample.best for sample in self.samples)

    @property
    def shares(self):
        """Typical speed of each sample over the best of all."""
        return [sample.typical / self.best for sample in self.samples]

    @property
    def is_quiet(self):
        """Whether every sample reached its share of the best."""
        return min(self.shares) >= _LEAST_SHARE

    def __str__(self):
        low, high = (100 * share for share in (min(self.shares), max(self.shares)))
        text = (
            f"between measurements the bare multiply-add loop reached {low:.0f} to {high:.0f} % of "
            f"its best, {self.best:.0f}"
        )
        if self.is_quiet:
            return text
        return f"THE MACHINE WAS NOT QUIET, do not trust these figures: {text}"

    def as_dict(self):
        """Everything, in types that JSON knows."""
        return {"is_quiet": self.is_quiet, "best": self.best, "shares": self.shares}


def sample_quietness():
    """Runs the bare loop for a moment; nothing of the benchmark itself may run meanwhile."""
    settle()
    speeds = run_bare_loop(_SAMPLE_SECONDS)
    return Sample(typical=statistics.median(speeds), best=max(speeds))

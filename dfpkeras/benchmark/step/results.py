"""What a comparison of whole steps found."""

import dataclasses
import statistics

from dfpkeras.benchmark.quietness import Quietness
from dfpkeras.benchmark.step.case import Case
from dfpkeras.benchmark.step.contenders import OURS

#: Kernels that turn float32 into INT16 or back.
CONVERSIONS = ("quantize_activation", "quantize_weights", "quantize_gradient", "dequantize")


@dataclasses.dataclass
class Measured:
    """What one contender did with one case.

    Attributes:
        implementation: what ran the steps, "Keras" or "plain PyTorch, channels_last".
        remark: why not a faster implementation, or "".
        seconds: list of the seconds of each timed step.
        peak_memory: largest resident memory of its process in bytes; None if unknown.
        idle_cpu_seconds: CPU time its process used while other contenders computed.
        kernel_hits: dict from the name of each kernel of this package to its runs in a step.
        profile: see `trace.profile`; None if there is none.
    """

    implementation: str = ""
    remark: str = ""
    seconds: list = dataclasses.field(default_factory=list)
    peak_memory: int | None = None
    idle_cpu_seconds: float | None = None
    kernel_hits: dict = dataclasses.field(default_factory=dict)
    profile: dict | None = None

    @property
    def median(self):
        """Median of the seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def conversions(self):
        """Runs of each of `CONVERSIONS` in a step."""
        return {name: self.kernel_hits.get(name, 0) for name in CONVERSIONS}

    def as_dict(self, images):
        """Everything, in types that JSON knows; `images` is the number of images in a step."""
        low, high = _quartiles(self.seconds)
        return {
            "implementation": self.implementation,
            "remark": self.remark,
            "images_per_second": images / self.median,
            "median": self.median,
            "quartiles": [low, high],
            "fastest": min(self.seconds),
            "steps": len(self.seconds),
            "peak_memory": self.peak_memory,
            "idle_cpu_seconds": self.idle_cpu_seconds,
            "conversions_per_step": self.conversions if self.kernel_hits else None,
            "kernel_hits_per_step": self.kernel_hits,
            "profile": self.profile,
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What all contenders did with one case.

    Attributes:
        case: `Case`.
        measured: dict from the name of each contender that succeeded to its `Measured`.
        left_out: dict from the name of each other one to the reason.
        quietness: `Quietness`, sampled before each turn and after the last.
    """

    case: Case
    measured: dict
    left_out: dict
    quietness: Quietness

    def ratio(self, name):
        """Median of a contender over ours: above 1 we are faster. None without ours."""
        if OURS not in self.measured:
            return None
        return self.measured[name].median / self.measured[OURS].median

    @property
    def best_rival(self):
        """Name of the fastest contender without dfpkeras, None if there is none."""
        rivals = (name for name in self.measured if not name.startswith(OURS))
        return min(rivals, key=lambda name: self.measured[name].median, default=None)

    def memory_ratio(self, name):
        """Our peak memory over a contender's: below 1 we need less. None if unknown."""
        ours = self.measured.get(OURS)
        theirs = self.measured[name]
        if ours is None or None in (ours.peak_memory, theirs.peak_memory):
            return None
        return ours.peak_memory / theirs.peak_memory

    def as_dict(self):
        """Everything, in types that JSON knows. Times are in seconds, memory in bytes."""
        return dataclasses.asdict(self.case) | {
            "contenders": {
                name: m.as_dict(self.case.images)
                | {"ratio": self.ratio(name), "memory_ratio": self.memory_ratio(name)}
                for name, m in self.measured.items()
            },
            "best_rival": self.best_rival,
            "left_out": self.left_out,
            "quietness": self.quietness.as_dict(),
        }


@dataclasses.dataclass(frozen=True)
class StepResults:
    """What a whole run found.

    Attributes:
        comparisons: list of `Comparison`.
        steps, time_limit: as asked for; the limit in seconds.
        machine: `dfpkeras.kernels.info()`.
        environment: dict of the variables that change the speed of a contender.
        versions: dict from the name of each installed package to its version.
    """

    comparisons: list
    steps: int
    time_limit: float
    machine: dict
    environment: dict
    versions: dict

    def as_dict(self):
        """Everything, in types that JSON knows."""
        return dataclasses.asdict(self) | {
            "comparisons": [comparison.as_dict() for comparison in self.comparisons]
        }


def _quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high

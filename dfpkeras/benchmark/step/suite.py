"""A whole comparison: cases and contenders."""

import contextlib
import importlib.metadata
import platform

from dfpkeras import kernels
from dfpkeras.benchmark.environment import speed_variables
from dfpkeras.benchmark.quietness import Quietness, sample_quietness
from dfpkeras.benchmark.step.contenders import OURS
from dfpkeras.benchmark.step.process import ContenderError, ContenderProcess
from dfpkeras.benchmark.step.results import Comparison, Measured, StepResults

_PACKAGES = ("dfpkeras", "keras", "tensorflow", "torch", "numpy")

# The first step traces the graph, the second allocates its memory.
_WARM_UP_TURNS = 2
# Steps shorter than this are repeated within a turn.
_TURN_SECONDS = 0.25
# One longer step is enough for a profile.
_LONG_STEP = 1.0


def run_step_suite(cases, contenders, steps, time_limit, report=print):
    """Compares contenders on some cases.

    Args:
        cases: list of `Case`.
        contenders: list of `Contender`.
        steps: timed turns of each contender; a turn is one step, or several short ones.
        time_limit: seconds that a contender may take to build a model, or for a turn.
        report: function that is called with a str about what happens next.

    Returns:
        `StepResults`.

    Raises:
        ModelError: a requested model is not available.
    """
    comparisons = []
    for case in cases:
        with _Race(case, contenders, time_limit, report) as race:
            comparisons.append(race.run(steps))
    return StepResults(
        comparisons=comparisons,
        steps=steps,
        time_limit=time_limit,
        machine=kernels.info(),
        environment=speed_variables(),
        versions=_versions(),
    )


class _Race(contextlib.AbstractContextManager):
    """The contenders of one case, each in its process; those that cannot continue are ended."""

    def __init__(self, case, contenders, time_limit, report):
        self._case = case
        self._report = report
        self._time_limit = time_limit
        self._contenders = contenders
        self._processes = {}
        self._measured = {}
        self._left_out = {}

    def __exit__(self, *error):
        for process in self._processes.values():
            process.end()

    def run(self, steps):
        self._start()
        for turn in range(_WARM_UP_TURNS):
            self._all(f"warm-up {turn + 1}", lambda process, measured: process.ask("turn", 0))
        self._all("kernels", self._hits)
        samples = []
        for turn in range(steps):
            samples.append(sample_quietness())
            self._all(f"turn {turn + 1} of {steps}", self._turn, rotation=turn)
        samples.append(sample_quietness())
        self._all("resources", self._resources)
        self._all("profile", self._profile)
        return Comparison(self._case, self._measured, self._left_out, Quietness(samples))

    def _start(self):
        for contender in self._contenders:
            name = contender.name
            if not contender.is_installed:
                self._left_out[name] = f"{contender.backend} is not installed"
                continue
            self._processes[name] = ContenderProcess(contender, self._case, self._time_limit)
            self._measured[name] = Measured()
        self._all("build", self._build)

    def _all(self, what, action, rotation=0):
        names = list(self._processes)
        first = rotation % max(len(names), 1)
        for name in names[first:] + names[:first]:
            self._do(name, what, action)

    def _do(self, name, what, action):
        self._report(f"{self._case.label}: {name}, {what}")
        try:
            action(self._processes[name], self._measured[name])
        except ContenderError as error:
            self._left_out[name] = f"{what}: {' '.join(str(error).split())}"
            self._processes.pop(name).end()
            del self._measured[name]

    @staticmethod
    def _build(process, measured):
        measured.implementation, measured.remark = process.ask("build")

    @staticmethod
    def _turn(process, measured):
        measured.seconds += process.ask("turn", _TURN_SECONDS)

    @staticmethod
    def _resources(process, measured):
        # Before profiling, which takes memory.
        for name, value in process.ask("resources").items():
            setattr(measured, name, value)

    @staticmethod
    def _hits(process, measured):
        if process.contender.name == OURS:
            measured.kernel_hits = process.ask("hits")

    @staticmethod
    def _profile(process, measured):
        try:
            measured.profile = process.ask("profile", 1 if measured.median > _LONG_STEP else 3)
        except ContenderError as error:
            # What has been measured so far is worth keeping.
            measured.remark = f"{measured.remark} no profile, {error}".strip()


def _versions():
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found

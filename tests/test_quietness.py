"""Whether a benchmark notices that other programs use the CPU, and names the best rival."""

import pytest

from dfpkeras.benchmark.quietness import Quietness, Sample, sample_quietness
from dfpkeras.benchmark.step.case import Case
from dfpkeras.benchmark.step.results import Comparison, Measured
from dfpkeras.benchmark.step.tables import remarks

QUIET = Quietness([Sample(typical=195.0, best=200.0), Sample(typical=190.0, best=198.0)])
BUSY = Quietness([*QUIET.samples, Sample(typical=120.0, best=199.0)])


def compare(quietness=QUIET, **seconds):
    measured = {name: Measured(seconds=[time]) for name, time in seconds.items()}
    return Comparison(Case("resnet50", None, 8), measured, {}, quietness)


def test_one_slow_sample_is_enough():
    assert QUIET.is_quiet
    assert not BUSY.is_quiet
    assert BUSY.as_dict() == {"is_quiet": False, "best": 200.0, "shares": [0.975, 0.95, 0.6]}
    assert "95 to 98 % of its best, 200" in str(QUIET)
    assert "NOT QUIET" not in str(QUIET)
    assert "NOT QUIET" in str(BUSY)


def test_the_loop_runs():
    sample = sample_quietness()
    assert 0 < sample.typical <= sample.best


def test_the_results_say_so():
    assert "NOT QUIET" in " ".join(remarks(compare(BUSY, dfp16=1.0)))
    assert "NOT QUIET" not in " ".join(remarks(compare(dfp16=1.0)))
    assert compare(BUSY, dfp16=1.0).as_dict()["quietness"]["is_quiet"] is False


@pytest.mark.parametrize(
    ("seconds", "rival", "text"),
    [
        (
            {"dfp16_direct": 1.5, "dfp16": 2.0, "tensorflow": 4.0, "pytorch_compiled": 3.0},
            "pytorch_compiled",
            "pytorch_compiled; dfp16_direct 2.00 times as fast, dfp16 1.50 times as fast",
        ),
        ({"tensorflow": 4.0, "pytorch": 5.0}, "tensorflow", None),
        ({"dfp16": 2.0}, None, None),
    ],
)
def test_best_rival(seconds, rival, text):
    comparison = compare(**seconds)
    assert comparison.as_dict()["best_rival"] == rival
    printed = " ".join(remarks(comparison))
    assert text in printed if text else "best rival" not in printed

"""Paired comparison of a policy with float32: the runs of one seed form a pair."""

import dataclasses

import numpy as np
from scipy import stats

ALLOWED_POINTS = 0.3
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Test accuracies under float32 and under another policy after the last epoch, in per cent.

    Attributes:
        name: str, name of the network.
        float32, dfp16: float64 arrays (seeds,), in the same order of seeds.
        policy: str, the other policy.
    """

    name: str
    float32: np.ndarray
    dfp16: np.ndarray
    policy: str = "dfp16"

    @property
    def difference(self):
        """Mean of dfp16 minus float32, in points."""
        return float((self.dfp16 - self.float32).mean())

    @property
    def interval(self):
        """The 95 % interval of the mean paired difference by Student's t: (low, high), in points;
        NaN for fewer than two pairs."""
        differences = self.dfp16 - self.float32
        if len(differences) < 2:
            return np.nan, np.nan
        if not differences.std():
            return (self.difference,) * 2  # the test's own interval would be NaN
        low, high = stats.ttest_rel(self.dfp16, self.float32).confidence_interval(CONFIDENCE)
        return float(low), float(high)

    @property
    def p_value(self):
        """The p-value of the two-sided paired t-test, NaN for fewer than two pairs."""
        if len(self.float32) < 2:
            return np.nan
        if not (self.dfp16 - self.float32).std():
            return 0.0 if self.difference else 1.0
        return float(stats.ttest_rel(self.dfp16, self.float32).pvalue)

    @property
    def is_equal(self):
        """Whether the means differ by at most 0.3 points, or the interval contains 0."""
        low, high = self.interval
        return abs(self.difference) <= ALLOWED_POINTS or bool(low <= 0 <= high)


def compare(name, float32, dfp16, policy="dfp16"):
    """Pairs runs by seed; a seed that only one policy has is left out.

    Args:
        name: str.
        float32, dfp16: `pandas.Series` of test accuracies 0..1, indexed by seed.
        policy: str, the other policy.

    Returns:
        `Comparison`.

    Raises:
        ValueError: there is no pair.
    """
    seeds = sorted(set(float32.index) & set(dfp16.index))
    if not seeds:
        raise ValueError(f"{name}: expected a seed trained under both policies, got none")
    return Comparison(
        name,
        100 * float32.loc[seeds].to_numpy(np.float64),
        100 * dfp16.loc[seeds].to_numpy(np.float64),
        policy,
    )


def deviation(values):
    """Standard deviation of a sample, NaN for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan

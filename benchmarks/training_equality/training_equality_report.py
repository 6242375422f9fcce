"""Compares loss curves of dfp16 with the spread of those of float32."""

import dataclasses

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@dataclasses.dataclass(frozen=True)
class Curves:
    """Loss curves, as means over windows of some steps.

    Attributes:
        window: int, steps of each mean.
        float32, dfp16: float64 arrays (seeds, windows).
    """

    window: int
    float32: np.ndarray
    dfp16: np.ndarray

    @property
    def mean_is_within(self):
        """Whether the mean of dfp16 lies in the range of the float32 curves: (windows,)."""
        return in_range(self.dfp16.mean(axis=0), self.float32)

    @property
    def is_within(self):
        """Whether each dfp16 curve lies in the range of the float32 curves: (seeds, windows)."""
        return in_range(self.dfp16, self.float32)

    @property
    def is_near(self):
        """Whether each dfp16 curve is at most two standard deviations of the float32 curves away
        from their mean: (seeds, windows)."""
        return near(self.dfp16, self.float32)


def in_range(values, sample):
    """Whether values lie between the lowest and the highest of a sample (along its first axis)."""
    return (values >= sample.min(axis=0)) & (values <= sample.max(axis=0))


def near(values, sample):
    """Whether values are at most two standard deviations of a sample away from its mean."""
    return np.abs(values - sample.mean(axis=0)) <= 2 * sample.std(axis=0, ddof=1)


def chances(seeds, draws=100_000):
    """How often a further normal number is `in_range` of `seeds` others, and how often `near`
    them."""
    numbers = np.random.default_rng(0).standard_normal((seeds + 1, draws))
    return in_range(numbers[0], numbers[1:]).mean(), near(numbers[0], numbers[1:]).mean()


def compare(float32, dfp16, window):
    """Averages the losses of each run over windows.

    Args:
        float32, dfp16: lists of arrays (steps,), one for each seed, in the same order.
        window: int that divides the number of steps.

    Returns:
        `Curves`.
    """
    float32, dfp16 = (np.stack(runs).reshape(len(runs), -1, window) for runs in (float32, dfp16))
    return Curves(window, float32.mean(axis=2), dfp16.mean(axis=2))


def stays_within(curves):
    """Whether dfp16 stays within the spread of float32, as training_equality.py defines it."""
    return bool(curves.mean_is_within.all())


def markdown(curves):
    """Returns the curves as a table, with the findings."""
    windows = curves.float32.shape[1]
    lines = [
        "| steps | float32 lowest | mean | highest | sd | dfp16 lowest | mean | highest |",
        "|---|" + "---:|" * 7,
    ]
    for i in range(windows):
        f, d = curves.float32[:, i], curves.dfp16[:, i]
        numbers = (f.min(), f.mean(), f.max(), f.std(ddof=1), d.min(), d.mean(), d.max())
        steps = f"{i * curves.window + 1}-{(i + 1) * curves.window}"
        lines.append(f"| {steps} | " + " | ".join(f"{x:.4f}" for x in numbers) + " |")
    return "\n".join([*lines, "", *_findings(curves)]) + "\n"


def _findings(curves):
    seeds, windows = curves.float32.shape
    in_range_by_chance, near_by_chance = chances(seeds)
    difference = curves.dfp16 - curves.float32
    deviation = curves.float32.std(axis=0, ddof=1).mean()
    return [
        f"Loss of ResNet-20, {seeds} seeds, means over {curves.window} steps of 64 images.",
        "",
        f"- The mean of dfp16 lies between float32's lowest and highest in "
        f"{curves.mean_is_within.sum()} of {windows} windows.",
        f"- Single dfp16 curves lie there in {curves.is_within.mean():.0%} of windows; one more "
        f"float32 run would in {in_range_by_chance:.0%}.",
        f"- They lie within two standard deviations of float32's mean in "
        f"{curves.is_near.mean():.0%}; one more float32 run would in {near_by_chance:.0%}.",
        f"- dfp16 minus float32 of the same seed is {difference.mean():+.4f} on average, with a "
        f"standard deviation of {difference.std(ddof=1):.4f}; float32's own from seed to seed is "
        f"{deviation:.4f}.",
        "",
        f"dfp16 {'stays within' if stays_within(curves) else 'LEAVES'} the spread of float32.",
    ]


def plot(curves, path):
    """Draws both sets of curves over the spread of float32."""
    steps = (np.arange(curves.float32.shape[1]) + 1) * curves.window
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    mean, deviation = curves.float32.mean(axis=0), curves.float32.std(axis=0, ddof=1)
    axes.fill_between(
        steps, mean - 2 * deviation, mean + 2 * deviation, color="0.9", label="float32: mean ± 2 sd"
    )
    axes.fill_between(
        steps,
        curves.float32.min(axis=0),
        curves.float32.max(axis=0),
        color="0.75",
        label="float32: lowest to highest",
    )
    for name, runs, style in (("float32", curves.float32, "k-"), ("dfp16", curves.dfp16, "C1-")):
        for seed, run in enumerate(runs):
            label = f"{name}, each seed" if seed == 0 else None
            axes.plot(steps, run, style, linewidth=0.7, alpha=0.7, label=label)
    axes.plot(steps, curves.dfp16.mean(axis=0), "C3-", linewidth=2, label="dfp16: mean")
    axes.set(
        xlabel="step",
        ylabel=f"loss, mean of {curves.window} steps",
        title=f"ResNet-20, {len(curves.float32)} seeds: dfp16 within the spread of float32?",
    )
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""benchmarks/training_equality: it trains both policies, and detects dfp16 outside the spread."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_support import dtype_policy

from dfpkeras.ops.kernel_hits import hits

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "training_equality"))

import training_equality_report as report
import training_equality_runs as runs

pytestmark = pytest.mark.slow

STEPS, WINDOW = 60, 10


def losses(seeds, shift=0.0):
    """Loss curves of the same shape at different heights."""
    falling = 2 * np.exp(-np.arange(STEPS) / 30)
    return [falling + shift + 0.1 * seed for seed in range(seeds)]


def test_windows_hold_means():
    curves = report.compare(losses(5), losses(3), WINDOW)
    assert curves.float32.shape == (5, 6) and curves.dfp16.shape == (3, 6)
    assert curves.float32[2, 1] == pytest.approx(losses(5)[2][10:20].mean())


@pytest.mark.parametrize(
    ("shift", "within"), [(0, True), (0.19, True), (0.21, False), (-0.3, False)]
)
def test_the_mean_of_dfp16_decides(shift, within):
    curves = report.compare(losses(5), losses(5, shift), WINDOW)
    assert report.stays_within(curves) is within
    verdict = "stays within" if within else "LEAVES"
    assert f"dfp16 {verdict} the spread of float32." in report.markdown(curves)


def test_one_window_outside_is_enough():
    late = losses(5)
    for run in late:
        run[-WINDOW:] += 0.5
    curves = report.compare(losses(5), late, WINDOW)
    assert curves.mean_is_within.tolist() == [True] * 5 + [False]
    assert not report.stays_within(curves)
    assert "in 5 of 6 windows" in report.markdown(curves)


def test_single_curves_are_counted():
    curves = report.compare(losses(5), losses(5, shift=0.15), WINDOW)  # heights 0.15 to 0.55
    assert curves.is_within.mean() == 3 / 5
    assert curves.is_near.mean() == 4 / 5  # 0.2 + 2 * 0.158
    assert "Single dfp16 curves lie there in 60% of windows" in report.markdown(curves)


def test_chances_of_one_more_run():
    in_range, near = report.chances(5)
    assert in_range == pytest.approx(4 / 6, abs=0.01)
    # Student's t with 4 degrees of freedom beyond 2 / sqrt(1 + 1/5).
    assert near == pytest.approx(0.858, abs=0.01)


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0)
    for index in range(runs.BATCH_SIZE):
        folder = tmp_path / f"class{index % 2}"
        folder.mkdir(exist_ok=True)
        image = pixels.integers(0, 256, (32, 32, 3))
        keras.utils.save_img(folder / f"{index}.png", image, scale=False)
    return tmp_path


def test_both_policies_begin_with_the_same_weights_and_images(images):
    with dtype_policy():
        float32 = runs.train(images, "float32", seed=3, steps=1)
        hits.reset()
        dfp16 = runs.train(images, "dfp16", seed=3, steps=1)
    assert hits["conv_forward"] == 21  # 19 and 2 shortcuts
    assert float32.shape == dfp16.shape == (1,)
    assert dfp16[0] == pytest.approx(float32[0], rel=1e-3) and dfp16[0] != float32[0]


def test_too_few_images(images):
    with dtype_policy(), pytest.raises(ValueError, match=r"2 steps need 128 images .* got 64"):
        runs.train(images, "float32", seed=0, steps=2)


def test_picture(tmp_path):
    report.plot(report.compare(losses(5), losses(5), WINDOW), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000

"""The estimate of an epoch of ImageNet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "imagenet_epoch.py"


def steps(**profile):
    """Measured steps of 16 images in a second, on two cores."""
    ours = {"images_per_second": 16.0, "median": 1.0, "profile": profile}
    contenders = {"dfp16": ours, "tensorflow": {"images_per_second": 8.0}}
    comparison = {"network": "resnet50", "batch_size": 16, "contenders": contenders}
    return {"machine": {"num_threads": 2, "isa": "avx2"}, "comparisons": [comparison]}


def cells_of(tmp_path, results, *options):
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(results))
    command = [sys.executable, str(SCRIPT), str(path), *options]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [cell.strip() for cell in output.splitlines()[-1].split("|")[1:-1]]


@pytest.mark.parametrize(
    ("profile", "options", "seconds"),
    [
        # 1 s / 16 cores twice as many images; decoding 32 / (685 * 16) s.
        ({"convolution": 1.0}, ("--cores", "32"), 2 / 16),
        # Bandwidth 10 times as large.
        ({"batch norm": 1.0}, ("--cores", "32", "--bandwidth", "340"), 2 / 10),
        ({"optimizer": 1.0}, ("--cores", "32", "--bandwidth", "340"), 1 / 10),
        ({"between operations": 1.0}, ("--cores", "32"), 1.0),
        # The profiler's seconds count in proportion.
        ({"convolution": 3.0, "between operations": 1.0}, ("--cores", "32"), 0.75 * 2 / 16 + 0.25),
    ],
)
def test_each_part_of_a_step_scales_by_what_limits_it(tmp_path, profile, options, seconds):
    cells = cells_of(tmp_path, steps(**profile), "--batch-size", "32", *options)
    expected = 32 / (seconds + 32 / (685 * 16))
    assert float(cells[6]) == pytest.approx(expected, abs=0.5)


def test_an_epoch_here_follows_from_the_images_per_second(tmp_path):
    cells = cells_of(tmp_path, steps(convolution=1.0))
    assert cells[:6] == ["resnet50", "16", "16.0", "22.2 h", "8.0", "44.5 h"]

"""``dfpkeras train --monitor`` and ``dfpkeras monitor``."""

import numpy as np
import pytest

from dfpkeras.cli.heat_map import plot_heat_map
from dfpkeras.cli.main import main
from dfpkeras.cli.monitor import STATISTICS
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.monitor.records import Records
from dfpkeras.monitor.rows import OF_TENSOR, ROLES, Row

PNG = b"\x89PNG\r\n"


def recorded(layers=3, steps=(1, 101, 201)):
    """Rows of layers and steps, whose numbers tell both."""
    rows = []
    for step in steps:
        for layer in range(layers):
            path, number = f"net/layer_{layer}", layer + step / 1000
            for role in ROLES[: 1 + layer % 3]:
                numbers = [-3, 0.5 + number, 0.25, 0.0, 70 + number, "modelled", number]
                rows.append(Row(step, path, role, "", *numbers))
            rows.append(
                Row(step, path, "", "forward", algorithm="direct", run_length=8 + number, flushes=2)
            )
    return rows


@pytest.fixture
def directory(tmp_path):
    records = Records(tmp_path / "mine" / "monitor.csv")
    records.continue_from(0)
    records.append(recorded())
    return records.path.parent


def monitor(*arguments):
    return main(["monitor", *map(str, arguments)])


def test_a_run_by_name_or_path(directory, capsys):
    assert monitor("mine", "--runs-dir", directory.parent) == 0
    printed = capsys.readouterr().out
    for text in ("net/layer_0", "net/layer_2", "direct", "3 steps", str(directory / "monitor.png")):
        assert text in printed
    assert (directory / "monitor.png").read_bytes().startswith(PNG)
    (directory / "monitor.png").unlink()
    assert monitor(directory) == 0
    assert (directory / "monitor.png").exists()


def test_another_file(directory, tmp_path, capsys):
    assert monitor(directory, "--plot", tmp_path / "other.png", "--statistic", "run_length") == 0
    assert (tmp_path / "other.png").read_bytes().startswith(PNG)
    assert not (directory / "monitor.png").exists()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_heat_map_has_the_numbers(statistic):
    rows = recorded(steps=tuple(range(1, 2000, 100)))
    figure = plot_heat_map(rows, statistic, "a $title$")
    panels = [axes for axes in figure.axes if axes.images]
    wanted = ROLES if statistic in OF_TENSOR else DIRECTIONS
    assert [axes.get_title() for axes in panels] == [of.replace("_", "-") for of in wanted]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["layer_0", "layer_1", "layer_2"]
    steps = [label.get_text() for label in panels[0].get_xticklabels()]
    assert steps[0] == "1" and steps[-1].startswith("1,") and len(steps) <= 8
    for axes, of in zip(panels, wanted, strict=True):
        grid = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
        assert grid.shape == (3, 20)
        for row in rows:
            if of in (row.role, row.direction):
                place = grid[int(row.layer[-1]), (row.step - 1) // 100]
                assert place == pytest.approx(getattr(row, statistic))
        recorded_here = sum(of in (row.role, row.direction) for row in rows)
        assert np.isfinite(grid).sum() == recorded_here
    figure.canvas.draw()


def test_one_layer_one_step_and_numbers_that_are_none():
    nan = float("nan")
    row = Row(1, "top", "weights", "", 127, nan, nan, nan, nan, "modelled", nan)
    for statistic in STATISTICS[:6]:
        plot_heat_map([row], statistic, "x").canvas.draw()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nowhere/monitor.csv: there is no such file; train with --monitor"),
        ("a,b\n", "monitor.csv: cannot be read: it is not, or no longer, what a monitor writes"),
        (",".join(Row._fields) + "\n", "monitor.csv: no layer computed on integers"),
    ],
)
def test_mistakes_are_one_line(content, message, tmp_path, capsys):
    directory = tmp_path / "nowhere"
    if content is not None:
        directory.mkdir()
        (directory / "monitor.csv").write_text(content)
    assert monitor("nowhere", "--runs-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("dfpkeras monitor: error: ") and message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_training_records_and_continues(tmp_path, capsys):
    def train(*options):
        return main(["train", "--runs-dir", str(tmp_path), "--name", "run", *options])

    options = ["--model", "interrupted_runs:tiny_model", "--epochs", "1", "--steps-per-epoch", "3"]
    assert train(*options, "--compare", "--monitor", "--tensorboard") == 0
    run = tmp_path / "run"
    rows = Records(run / "monitor.csv").read()
    assert {row.step for row in rows} == {1}
    assert {row.role for row in rows} == {*ROLES, ""}
    assert (run / "monitor.png").exists()
    assert list((run / "tensorboard" / "dfp16" / "monitor").iterdir())
    assert not (run / "tensorboard" / "float32" / "monitor").exists()
    printed = capsys.readouterr().out
    assert "useful bits" in printed and "Heat map" in printed
    assert train("--resume") == 0
    assert Records(run / "monitor.csv").read() == rows

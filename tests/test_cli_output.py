"""What commands print: names unchanged, plain lines without a terminal; if the terminal is lost,
only its output is."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import interrupted_runs
import keras
import numpy as np
import pandas as pd
import pytest
import rich.console

import dfpkeras
from dfpkeras.benchmark import tables
from dfpkeras.cli import epoch_lines, plot, summary
from dfpkeras.cli.main import main
from dfpkeras.cli.recorder import RunRecorder
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.console import make_console, make_progress
from dfpkeras.integration.report import LayerReport, Report

pytestmark = pytest.mark.slow

HOSTILE = ["lr[low]", "[/bold]", "[red]x[/red]", ":smile:", "a$x^{$b_", "%s {0}"]
every_name = pytest.mark.parametrize("name", HOSTILE)


def history(policies=("dfp16",), epochs=1):
    columns = ["loss", "accuracy", "top_5_accuracy", "val_loss", "val_accuracy"]
    columns += ["val_top_5_accuracy", "timed_images", "timed_seconds", "train_seconds"]
    return pd.DataFrame(
        [
            {"policy": policy, "epoch": epoch, **dict.fromkeys(columns, 0.5)}
            for policy in policies
            for epoch in range(1, epochs + 1)
        ]
    )


# Names are text


def test_rich_is_used_through_one_module():
    """Its consoles interpret names as markup unless told otherwise."""
    package = Path(dfpkeras.__file__).parent
    uses = re.compile(r"^(import|from) rich\.(console|text)|TextColumn", re.MULTILINE)
    found = {path.name for path in package.rglob("*.py") if uses.search(path.read_text())}
    assert found == {"console.py"}


@every_name
def test_the_table_of_a_run_shows_its_name(name, capsys):
    summary.print_table(f"runs/{name}", summary.summarize(history([name])))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"runs/{name}"
    assert f" {name} " in lines[2]


@every_name
def test_the_report_shows_the_names_of_layers(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    row = LayerReport(f"outer/{name}", f"{name}Layer", "float32", f"because of {name}")
    printed = str(Report((row,), 32))
    assert all(text in printed for text in (row.path, row.class_name, row.reason))


@every_name
def test_the_picture_shows_the_name_of_the_data(name):
    figure = plot.plot_history(history(), name)
    figure.canvas.draw()
    assert figure._suptitle.get_text() == name
    assert not figure._suptitle.get_parse_math()


@every_name
def test_tables_and_bars_show_names(name):
    file = io.StringIO()
    console = make_console(file=file)
    table = tables.make_table(name, [f"{name} heading"])
    table.add_row(f"{name} cell")
    console.print(table, f"{name} line")
    for place in (name, f"{name} heading", f"{name} cell", f"{name} line"):
        assert place in file.getvalue()
    progress = make_progress("description")
    progress.add_task(name)
    console.print(progress.get_renderable())
    assert file.getvalue().rstrip().endswith(name)


@every_name
def test_checks_and_errors_show_names(name, tmp_path, capsys):
    name = name.replace("/", "-")
    directory = tmp_path / name
    directory.mkdir()
    assert main(["data", "check", str(directory)]) == 2
    assert f"/{name}: no files train-*" in capsys.readouterr().err
    assert main(["train", "--runs-dir", str(tmp_path), "--recipe", f"{name}.toml"]) == 2
    assert f"{name}.toml: cannot be read: No such file" in capsys.readouterr().err


def test_a_ratio_below_one_is_red():
    file = io.StringIO()
    console = make_console(file=file, force_terminal=True, color_system="standard")
    console.print(tables.ratio(0.5), tables.ratio(2.0), tables.ratio(None))
    assert file.getvalue() == "\x1b[31m0.50\x1b[0m 2.00 -\n"


# Without a terminal, and on narrow ones


def train_two_epochs(capsys, steps=3):
    lines = epoch_lines.EpochLines()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((steps, 2)), np.ones((steps, 1))
    model.fit(x, y, 1, epochs=2, validation_data=(x, y), callbacks=[lines], verbose=0)
    return capsys.readouterr()


def test_without_a_terminal_an_epoch_is_one_line(capsys):
    printed, errors = train_two_epochs(capsys)
    assert errors == ""
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(printed.splitlines(), start=1):
        pattern = rf"Epoch {epoch}/2  3 steps  \d+\.\d s  loss {number}  val_loss {number}"
        assert re.fullmatch(pattern, line)
    assert epoch == 2


def test_a_long_epoch_reports_its_progress(capsys, monkeypatch):
    clock = iter(range(0, 100_000, 200))
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: next(clock))
    printed, _ = train_two_epochs(capsys, steps=4)
    steps = re.findall(r"^Epoch 1/2, step (\d)/4", printed, re.MULTILINE)
    assert steps == ["2", "4"]


@pytest.mark.parametrize(
    ("environment", "colours", "bar"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
)
def test_terminals(capsys, monkeypatch, environment, colours, bar):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(rich.console.Console, "is_terminal", property(lambda self: True))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _, errors = train_two_epochs(capsys)
    assert ("\x1b[" in errors) == bar
    assert (re.search(r"\x1b\[\d+(;\d+)*m", errors) is not None) == colours


def test_forty_columns_are_enough(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    summary.print_table("x", summary.summarize(history(["dfp16", "float32"])))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 40
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.ReLU()]
    printed = str(dfpkeras.report(keras.Sequential(layers)))
    assert max(map(len, printed.splitlines())) <= 40


def test_one_epoch_has_an_axis_of_epochs():
    figure = plot.plot_history(history(), "x")
    figure.canvas.draw()
    for axes in figure.axes[:-1]:
        assert [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5] == [1]


# Terminals that are closed


def assert_trained(directory):
    assert directory.latest_checkpoint("dfp16")[1:] == (1, 0)
    assert directory.curves_path.stat().st_size > 0


def test_closed_descriptors_cost_the_output_alone(tmp_path):
    """In a separate process: what it opens next gets the descriptors of the streams."""
    log = tmp_path / "log"
    arguments = ["--name", "x", "--runs-dir", str(tmp_path), "--epochs", "1"]
    code = interrupted_runs.train_and_die("descriptors_that_are_closed", arguments, str(log))
    assert "Traceback" not in log.read_text()
    assert code == 2
    assert_trained(RunDirectory(tmp_path / "x"))


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


def pipe_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(("descriptor", "expected"), [(full_disk, 2), (pipe_that_nobody_reads, 0)])
def test_lost_output_costs_the_output_alone(tmp_path, descriptor, expected):
    """Exit code 2 means that something was not written; a closed pipe means no more was wanted."""
    arguments = ["--name", "x", "--runs-dir", str(tmp_path), "--epochs", "1"]
    code = None
    with (
        contextlib.suppress(OSError),  # of closing the streams
        os.fdopen(descriptor(), "w") as stdout,
        os.fdopen(descriptor(), "w") as stderr,
        interrupted_runs.tiny_training() as patch,
    ):
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        code = main(["train", *arguments])
    assert code == expected
    assert_trained(RunDirectory(tmp_path / "x"))


def test_nohup_is_respected(tmp_path):
    recorder, before = RunRecorder(None, "dfp16", 1, 1, 10), signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with recorder.stopped_by_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == recorder._request_stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_streams_that_were_closed_from_the_beginning(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["info"]) == 0
    assert main(["data", "check", "/nowhere"]) == 2


def test_help_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-P", "-m", "dfpkeras_command", "--help"], stdout=full, stderr=-1
        )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert b"No space left on device" in result.stderr

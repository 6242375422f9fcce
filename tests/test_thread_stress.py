"""Many threads and processes at once: right results, no more threads than allowed, no deadlock."""

import subprocess
import sys

import pytest
from native_program import build_thread_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts threads in /proc"),
]


# ---- the pool of threads by itself -----------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_thread_program(tmp_path_factory.mktemp("threads"), "-O1", "-g")


@pytest.fixture(scope="module")
def race_checked_program(tmp_path_factory):
    return build_thread_program(tmp_path_factory.mktemp("races"), "-O1", "-g", "-fsanitize=thread")


def most_running(program, *arguments):
    """The largest number of tasks that ran at the same time."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr}"
    return int(result.stdout)


@pytest.mark.parametrize("allowed", [1, 2, 3, 5])
def test_six_callers_run_as_many_threads_as_allowed(program, allowed):
    assert most_running(program, "limit", str(allowed)) == allowed


def test_the_number_of_threads_may_change_at_any_time(program):
    assert 2 <= most_running(program, "resize") <= 5


def test_a_child_forked_at_any_time_can_run_operations(program):
    most_running(program, "fork")


@pytest.mark.parametrize("mode", [("limit", "3"), ("resize",)])
def test_no_data_races(race_checked_program, mode):
    most_running(race_checked_program, *mode)


# ---- models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summary(run_program):
    """What tests/stress_program.py found."""
    return run_program("stress_program.py")


def test_models_trained_at_once_get_the_weights_of_training_alone(summary):
    assert summary["fits_agree"] == [True, True]


def test_kernels_called_meanwhile_return_the_usual_results(summary):
    assert summary["kernels_agree"] == [True, True]


def test_predictions_at_once_are_those_of_a_single_thread(summary):
    assert summary["predictions_agree"]


def test_forked_workers_may_call_kernels_during_training(summary):
    assert summary["forked_batches"] == 2 * 6
    assert summary["forked_losses_agree"]


def test_all_callers_share_the_workers_of_one_pool(summary):
    assert summary["most_workers"] == summary["threads"] - 1

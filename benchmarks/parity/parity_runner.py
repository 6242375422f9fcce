"""Does the missing runs, one after the other, each in a process of `dfpkeras train`."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from parity_results import append_run, final_rows, missing_runs, read_results, rows_of

HERE = Path(__file__).parent


def do_missing_runs(runs, results_path, work):
    """Does every run that the results lack, and appends it as soon as it is finished.

    A run that was interrupted earlier continues from its last checkpoint. A run that fails
    is reported, and the others are done.

    Args:
        runs: list of `parity_study.Run`.
        results_path: path of the file of results.
        work: directory with the prepared data, for the runs' own directories and their output.

    Returns:
        The number of runs that failed.

    Raises:
        RuntimeError: another process is at work in that directory.
    """
    missing = missing_runs(runs, read_results(results_path))
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are done, {len(missing)} to do")
    failures, begin = 0, time.monotonic()
    with only_process(work) as lock:
        for number, run in enumerate(missing, 1):
            done = do_run(run, results_path, work, lock)
            failures += not done
            each = (time.monotonic() - begin) / number
            left = each * (len(missing) - number) / 60
            print(
                f"[{number}/{len(missing)}] {done or 'FAILED'}, {left:.0f} minutes left", flush=True
            )
    return failures


def do_run(run, results_path, work, lock):
    """Does one run; returns what to print of it, or None if it failed."""
    log_path = work / "logs" / f"{run.directory_name}.txt"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "a") as log:
        status = subprocess.run(
            train_command(run, work),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
            pass_fds=[lock],
        ).returncode
    if status:
        print(f"{run.directory_name} ended with status {status}, see {log_path}", file=sys.stderr)
        return None
    directory = work / "runs" / run.directory_name
    append_run(results_path, run, pd.read_csv(directory / "history.csv"))
    drop_all_but_the_last_checkpoint(directory)
    row = final_rows(rows_of(read_results(results_path), [run])).iloc[0]
    return f"{run.name}, {run.policy}, seed {run.seed}: {100 * row.val_accuracy:.2f} %"


def train_command(run, work):
    """Returns the command of a run, which resumes it if it has begun."""
    command = [sys.executable, "-m", "dfpkeras_command", "train"]
    command += ["--runs-dir", str(work / "runs"), "--name", run.directory_name]
    if (work / "runs" / run.directory_name / "config.json").exists():
        return [*command, "--resume"]
    command += ["--policy", run.dtype_policy, "--seed", str(run.seed)]
    for option, value in (run.options | {"data": work / "data" / run.options["data"]}).items():
        command += option_arguments(option, value)
    return command


def option_arguments(option, value):
    """Returns an option of the study's file as arguments of the command line."""
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *map(str, value if isinstance(value, list) else [value])]


def environment():
    """Returns the environment of a run: it finds this folder's models."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


@contextlib.contextmanager
def only_process(work):
    """Holds a lock. Runs hold it, too, so a run is noticed even if its parent was killed."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{work}: another process, or a run it began, is at work") from None
        yield file.fileno()


def drop_all_but_the_last_checkpoint(directory):
    """Frees what a finished run no longer needs."""
    checkpoints = sorted(directory.glob("checkpoints/*/*"))
    for path in checkpoints[:-1]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()

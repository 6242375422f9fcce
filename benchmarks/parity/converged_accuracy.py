"""Accuracy after training to convergence, where seeds scatter little, so that small losses show.

    python benchmarks/parity/converged_accuracy.py [--seeds 10]

trains the default model of ``dfpkeras train`` on the embedded digits under every policy below, with
the default hyper-parameters and each seed, and writes
``benchmarks/results/converged_accuracy.csv`` (a row per policy and seed) and
``converged_accuracy.md``: means, and paired differences from float32 with their 95 % confidence
intervals (Student's t) over the seeds that are complete. float32 is also trained with the rounding
of ``bfloat16_train.py``. Runs that the file holds are not repeated; the others take a core each,
fifty of them about fifty minutes on two cores.
"""

import argparse
import concurrent.futures
import os
import queue
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from parity_statistics import compare, deviation

from dfpkeras.cli.run_directory import RunDirectory

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
TABLE = RESULTS / "converged_accuracy.csv"
REFERENCE = "float32"
BFLOAT16 = "float32, operands rounded to bfloat16"
#: With images as small and batches of 32, dfp16 chooses the direct algorithm everywhere;
#: winograd_4x4 is the noisiest that it chooses from.
POLICIES = (
    REFERENCE,
    BFLOAT16,
    "dfp16",
    "dfp16(algorithm=direct)",
    "dfp16(algorithm=winograd_4x4)",
)


def train(policy, seed, runs_dir, core):
    """Held-out accuracy after the last epoch, 0..1."""
    name = f"{POLICIES.index(policy)}-{seed}"
    options = ["--seed", str(seed), "--name", name, "--runs-dir", runs_dir]
    result = subprocess.run(
        [sys.executable, "-P", *train_command(policy), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, [core]),
    )
    if result.returncode:
        raise RuntimeError(f"{policy}, seed {seed}: {result.stderr}")
    return RunDirectory(Path(runs_dir) / name).history()["val_accuracy"].iloc[-1]


def train_command(policy):
    """Python's arguments for training under a policy."""
    if policy == BFLOAT16:
        return [str(HERE / "bfloat16_train.py"), "train", "--policy", REFERENCE]
    return ["-m", "dfpkeras_command", "train", "--policy", policy]


def train_missing(seeds):
    """A row per policy and seed; each is saved as soon as those before it are finished."""
    rows = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=["policy", "seed"])
    done = set(zip(rows.policy, rows.seed, strict=True))
    cores = queue.SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def run(case):
        core = cores.get()
        try:
            accuracy = train(*case, runs_dir, core)
        finally:
            cores.put(core)
        print(*case, f"{100 * accuracy:.2f}", flush=True)
        return {"policy": case[0], "seed": case[1], "accuracy": accuracy}

    cases = [(policy, seed) for seed in range(seeds) for policy in POLICIES]
    cases = [case for case in cases if case not in done]
    with (
        tempfile.TemporaryDirectory() as runs_dir,
        concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool,
    ):
        for row in pool.map(run, cases):
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            rows.round(4).to_csv(TABLE, index=False)
    return rows


def markdown(rows):
    """The table of means and of differences from float32."""
    table = rows.pivot(index="seed", columns="policy", values="accuracy").dropna()
    lines = [
        "| policy | mean | deviation of seeds | minus float32 | 95 % interval |",
        "|---|--:|--:|--:|--:|",
    ]
    for policy in POLICIES:
        paired = compare(policy, table[REFERENCE], table[policy])
        cells = f"{paired.dfp16.mean():.2f}", f"{deviation(paired.dfp16):.2f}"
        if policy == REFERENCE:
            cells += "", ""
        else:
            low, high = paired.interval
            cells += f"{paired.difference:+.2f}", f"{low:+.2f} to {high:+.2f}"
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return f"{len(table)} seeds\n\n" + "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    rows = train_missing(parser.parse_args().seeds)
    (RESULTS / "converged_accuracy.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()

"""Held-out accuracy of dfp16 and float32 on the embedded digits, over three seeds.

    python benchmarks/accuracy_digits.py

runs ``dfpkeras train --compare`` for the seeds 0, 1 and 2 with the default hyper-parameters, each
in a separate process, and writes ``benchmarks/results/accuracy_digits.csv`` (a row per policy
and seed) and ``accuracy_digits.md`` (a table with means). It takes about five minutes on two cores.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.cli.summary import summarize

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
ALLOWED_LOSS = 0.5


def train_both(seed, runs_dir):
    """Trains under both policies and returns a row for each, accuracy in percent."""
    name = f"seed{seed}"
    command = [sys.executable, "-P", "-m", "dfpkeras_command", "train", "--compare", "--name", name]
    subprocess.run([*command, "--seed", str(seed), "--runs-dir", runs_dir], check=True)
    rows = summarize(RunDirectory(Path(runs_dir) / name).history()).reset_index()
    rows["seed"] = seed
    rows["accuracy"] *= 100
    return rows[["policy", "seed", "epochs", "accuracy"]]


def markdown(rows):
    """Returns the accuracies as a table: a line per policy, a column per seed, and the mean."""
    table = rows.pivot(index="policy", columns="seed", values="accuracy")
    table.columns = [f"seed {seed}" for seed in table.columns]
    table["mean"] = table.mean(axis=1)
    lines = [
        "| policy | " + " | ".join(table.columns) + " |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for policy, row in table.iterrows():
        lines.append(f"| {policy} | " + " | ".join(f"{value:.2f} %" for value in row) + " |")
    loss = table["mean"]["float32"] - table["mean"]["dfp16"]
    lines += ["", f"float32 minus dfp16: {loss:.2f} points; the limit is {ALLOWED_LOSS}."]
    return "\n".join(lines) + "\n"


def main():
    """Trains, writes the results and returns 1 if dfp16 is worse than allowed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as runs_dir:
        rows = pd.concat([train_both(seed, runs_dir) for seed in SEEDS], ignore_index=True)
    RESULTS.mkdir(exist_ok=True)
    rows.round(4).to_csv(RESULTS / "accuracy_digits.csv", index=False)
    (RESULTS / "accuracy_digits.md").write_text(markdown(rows))
    print(markdown(rows))
    means = rows.groupby("policy")["accuracy"].mean()
    return int(means["float32"] - means["dfp16"] > ALLOWED_LOSS)


if __name__ == "__main__":
    sys.exit(main())

"""Measures how many magnitude bits activations, weights and gradients should have.

    # trains; 7 minutes, 2 GB
    python benchmarks/bit_budget/bit_budget.py capture --data DIR --work WORK
    # 2 minutes
    python benchmarks/bit_budget/bit_budget.py table --work WORK
    # 1 minute, on a quiet machine
    python benchmarks/bit_budget/bit_budget.py speed --work WORK

(durations on two cores). `capture` trains three networks under dfp16 and saves what their layers
multiply: ResNet-20 for CIFAR and a VGG-like network for 500 steps of 64 images of 32x32, ResNet-50
for 150 steps of 32 images of 64x64, captured with 8 images of 224x224. WORK is a directory outside
the repository. DIR holds either TFRecords (`train-*` and `validation-*`, see
`dfpkeras.data.tfrecords`) or a folder of JPEGs for each class; any images can be used; the
committed results are from CIFAR-10, encoded as JPEG.

`table` computes from these tensors the proven run lengths of the flush schedule, the noise of
quantising and the noise of the kernels' results; `speed` times kernels on them. Both write
`benchmarks/results/bit_budget.json`, `.md` and `.png`, and keep what the other one measured.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RESULTS = Path(__file__).parent.parent / "results"
TABLES = ("runs", "operands", "results", "speed")


def main():
    arguments = parse_arguments()
    if arguments.command == "capture":
        from bit_budget_capture import capture_all

        capture_all(arguments.data, arguments.classes, arguments.steps, arguments.work)
    else:
        measured = {"table": tables, "speed": speed}[arguments.command](arguments.work)
        write_results(read_results() | measured)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    capture = commands.add_parser("capture", help="train networks and save their tensors")
    capture.add_argument("--data", type=Path, required=True, help="TFRecords or class folders")
    capture.add_argument(
        "--classes", type=int, default=1000, help="number of classes of TFRecords (default 1000)"
    )
    capture.add_argument(
        "--steps", type=int, default=500, help="training steps of the small networks"
    )
    table = commands.add_parser("table", help="run lengths and noise of the saved tensors")
    speed = commands.add_parser("speed", help="kernel time on the saved tensors")
    for command in (capture, table, speed):
        command.add_argument("--work", type=Path, required=True, help="directory of the tensors")
    return parser.parse_args()


def tables(work):
    """Returns the data frames ``runs``, ``operands`` and ``results`` and the dict ``training``."""
    import pandas as pd
    from bit_budget_choice import candidates_of
    from bit_budget_table import tabulate_operands, tabulate_results, tabulate_runs
    from bit_budget_tensors import find_snapshots, last_snapshots

    snapshots = find_snapshots(work)
    runs = pd.concat(map(tabulate_runs, snapshots), ignore_index=True)
    operands = pd.concat(map(tabulate_operands, snapshots), ignore_index=True)
    candidates = candidates_of(runs)
    results = [tabulate_results(snapshot, candidates) for snapshot in last_snapshots(snapshots)]
    return {
        "training": {
            path.parent.name: json.loads(path.read_text())
            for path in sorted(work.glob("*/training.json"))
        },
        "runs": runs,
        "operands": operands,
        "results": pd.concat(results, ignore_index=True),
    }


def speed(work):
    """Returns the data frame ``speed`` and the dict ``machine``."""
    from bit_budget_speed import measure_speed

    from dfpkeras import kernels

    machine = {key: kernels.info()[key] for key in ("cpu", "isa", "num_threads")}
    return {"speed": measure_speed(work), "machine": machine}


def read_results():
    """Returns what was written before, if anything."""
    import pandas as pd

    path = RESULTS / "bit_budget.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    return {
        key: pd.DataFrame(value["rows"], columns=value["columns"]) if key in TABLES else value
        for key, value in data.items()
    }


def write_results(data):
    """Writes the data frames and dicts, and the report and the plot made from them."""
    from bit_budget_plot import plot
    from bit_budget_report import markdown

    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bit_budget.json").write_text(to_json(data))
    if "runs" in data:
        (RESULTS / "bit_budget.md").write_text(markdown(data))
        plot(data).savefig(RESULTS / "bit_budget.png")
        print(RESULTS / "bit_budget.md")


def to_json(data):
    """Returns the results as JSON, a row of a table on each line."""
    parts = []
    for key, value in data.items():
        if key in TABLES:
            rounded = value.round(4).astype(object).where(value.notna(), None)
            rows = ",\n".join(map(json.dumps, rounded.to_numpy().tolist()))
            text = f'{{"columns": {json.dumps(list(value.columns))},\n"rows": [\n{rows}]}}'
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    main()

"""Whether networks reach the same accuracy under dfp16 as under float32.

    python benchmarks/parity/parity.py prepare --cifar10 DIR --fashion-mnist DIR
    python benchmarks/parity/parity.py networks
    python benchmarks/parity/parity.py ablation
    python benchmarks/parity/parity.py noise

`networks` trains every network of `parity_study.toml` under every policy with the same seeds,
`ablation` a small ResNet in many number formats. Each run is a separate `dfpkeras train`, and is
appended to `benchmarks/results/parity/*_runs.csv` as soon as it is finished. A command can be
interrupted at any time and run again to continue: finished runs are not repeated, and an unfinished
run continues from its last checkpoint. `--seeds 8` after `--seeds 5` does three more of each.

Both write their tables and plots at the end, and with `--report` do nothing else. `noise` measures
the quantised tensors of the first seed's float32 networks, layer by layer.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd
from parity_data import prepare
from parity_plot import plot_ablation, plot_curves, plot_noise
from parity_report import (
    ablation_markdown,
    ablation_table,
    compare_networks,
    comparison_markdown,
    comparison_table,
    noise_markdown,
)
from parity_results import missing_runs, read_results, rows_of
from parity_runner import do_missing_runs
from parity_study import STUDY_FILE, ablation_runs, network_runs, read_study

RESULTS = Path(__file__).parent.parent / "results" / "parity"


def main():
    arguments = parse_arguments()
    try:
        return arguments.command(arguments, read_study(arguments.study))
    except (ValueError, RuntimeError) as error:
        print(f"parity.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. Run the same command to continue.", file=sys.stderr)
        return 130


def prepare_data(arguments, study):
    prepare(study, {name: getattr(arguments, name) for name in study["data"]}, arguments.work)
    return 0


def train_networks(arguments, study):
    runs = network_runs(study, range(arguments.seeds), arguments.networks)
    path = arguments.results / "networks_runs.csv"
    failures = 0 if arguments.report else do_missing_runs(runs, path, arguments.work)
    runs = network_runs(study, range(arguments.seeds))
    results = read_results(path)
    comparisons = compare_networks(runs, results)
    if comparisons:
        comparison_table(comparisons).round(4).to_csv(
            arguments.results / "networks.csv", index=False
        )
        text = comparison_markdown(comparisons, study)
        (arguments.results / "networks.md").write_text(text)
        plot_curves(rows_of(results, runs), arguments.results / "networks.png")
        print(text)
    return int(failures > 0)


def train_ablation(arguments, study):
    runs = ablation_runs(study, range(arguments.seeds))
    path = arguments.results / "ablation_runs.csv"
    failures = 0 if arguments.report else do_missing_runs(runs, path, arguments.work)
    table = ablation_table(runs, read_results(path))
    if len(table):
        table.round(4).to_csv(arguments.results / "ablation.csv", index=False)
        text = ablation_markdown(table)
        (arguments.results / "ablation.md").write_text(text)
        plot_ablation(table, arguments.results / "ablation.png")
        print(text)
    return int(failures > 0)


def measure_networks(arguments, study):
    from parity_noise import measure_noise  # imports TensorFlow

    runs = [run for run in network_runs(study, [0]) if run.policy == "float32"]
    missing = missing_runs(runs, read_results(arguments.results / "networks_runs.csv"))
    if missing:
        raise RuntimeError(f"{missing[0].directory_name} is not finished: train the networks first")
    noise = pd.concat([measure_noise(run, arguments.work) for run in runs], ignore_index=True)
    noise.round(2).to_csv(arguments.results / "noise.csv", index=False)
    text = noise_markdown(noise)
    (arguments.results / "noise.md").write_text(text)
    plot_noise(noise, arguments.results / "noise.png")
    print(text)
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--study", type=Path, default=STUDY_FILE, help="(default: parity_study.toml)"
    )
    common.add_argument(
        "--work", type=Path, default=Path("parity_work"), help="data, runs (default: parity_work)"
    )
    common.add_argument(
        "--results", type=Path, default=RESULTS, help="(default: benchmarks/results/parity)"
    )
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser("prepare", parents=[common], help="convert the data")
    preparing.add_argument(
        "--cifar10", required=True, help="train/ and test/ of JPEG class folders"
    )
    preparing.add_argument(
        "--fashion-mnist", dest="fashion-mnist", required=True, help="the published idx files"
    )
    preparing.set_defaults(command=prepare_data)
    networks = commands.add_parser("networks", parents=[common], help="train the pairs")
    networks.add_argument(
        "--networks", nargs="+", metavar="NAME", help="train these (default: all)"
    )
    networks.set_defaults(command=train_networks)
    ablation = commands.add_parser("ablation", parents=[common], help="train in number formats")
    ablation.set_defaults(command=train_ablation)
    for training, seeds in ((networks, 5), (ablation, 3)):
        training.add_argument("--seeds", type=int, default=seeds, help=f"(default: {seeds})")
        training.add_argument("--report", action="store_true", help="train nothing")
    noise = commands.add_parser("noise", parents=[common], help="measure quantised tensors")
    noise.set_defaults(command=measure_networks)
    arguments = parser.parse_args()
    arguments.work, arguments.results = arguments.work.resolve(), arguments.results.resolve()
    arguments.results.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    sys.exit(main())

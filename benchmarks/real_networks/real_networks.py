"""Networks that others published, under dfp16 beside float32: one step each.

    python benchmarks/real_networks/real_networks.py applications
    python benchmarks/real_networks/real_networks.py backbones

The first takes every constructor of `keras.applications`, the second every vision backbone of
keras-hub (``pip install keras-hub``), made small; weights are random. What is compared, and with
which yardstick, is in `real_networks_step.py`. Each writes
``benchmarks/results/real_networks_<name>.csv``, a row for each network and mode as soon as it is
finished, and a table in ``.md``. Networks that the file holds are not run again, so an interrupted
command can be continued; it ends with 1 if a network is wrong. ``--networks`` names some of them.
"""

import argparse
import collections
import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pandas as pd
from real_networks_models import applications, backbones, images_for
from real_networks_step import ALLOWED, MODES, compare

RESULTS = Path(__file__).parent.parent / "results"


def measure(name, build, mode):
    """A row of the results: a dict."""
    keras.utils.set_random_seed(0)
    comparison = compare(build, images_for(build()), mode)
    rows, products = comparison.report.rows, comparison.products
    others = collections.Counter(
        (row.class_name, row.reason) for row in rows if row.computes == "float32"
    )
    return {
        "network": name,
        "mode": mode,
        "layers": len(rows),
        "integer": sum(row.computes == "int16" for row in rows),
        "kernels": sum(comparison.kernels.values()),
        **products,
        **{
            f"{quantity}_{who}": getattr(getattr(comparison, who), quantity)
            for quantity in ("output", "loss", "gradient")
            for who in ("dfp16", "rounded")
        },
        "faults": "; ".join(comparison.faults),
        "float32": "; ".join(
            f"{count} {class_name} ({reason})"
            for (class_name, reason), count in others.most_common()
        ),
    }


def measure_missing(networks, path):
    """A table with a row for each network and mode, saved after each."""
    rows = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame()
    done = set(zip(rows.network, rows["mode"], strict=True)) if len(rows) else set()
    for name, build in networks.items():
        for mode in MODES:
            if (name, mode) in done:
                continue
            row = measure(name, build, mode)
            print(name, mode, row["faults"] or "as float32", flush=True)
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            rows.to_csv(path, index=False, float_format="%.3g")
            keras.utils.clear_session()
            gc.collect()
    return rows


def markdown(rows):
    """The results as a table, with what it means."""
    wide = rows.pivot(index="network", columns="mode")
    names = list(dict.fromkeys(rows.network))
    lines = [
        "One step of networks with random weights under dfp16, relative to float32 (Euclidean "
        "norms), and in brackets the worst of two float32 networks whose tensors are rounded "
        f"stochastically to the bits of dfp16; allowed is {ALLOWED} times that. Frozen: batch "
        "norms with moving statistics, eagerly; training: with those of four images, in a graph. A "
        "gradient of ReLUs changes with the root of what its argument changes by, since arguments "
        "near 0 change sign; where the brackets say 0.5 or more, the step says little.",
        "",
        "| network | layers on integers | products forward / backward-data / backward-weights | "
        "output, frozen | gradient, frozen | output, training | gradient, training | |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name in names:
        row = wide.loc[name]
        cells = [
            f"{row[quantity + '_dfp16', mode]:.1e} ({row[quantity + '_rounded', mode]:.1e})"
            for mode in MODES
            for quantity in ("output", "gradient")
        ]
        directions = ("forward", "backward_data", "backward_weights")
        products = " / ".join(str(int(row[direction, "frozen"])) for direction in directions)
        verdict = "wrong" if any(row["faults", mode] for mode in MODES) else "as float32"
        lines.append(
            f"| {name} | {row['integer', 'frozen']} of {row['layers', 'frozen']} | {products} | "
            + " | ".join(cells)
            + f" | {verdict} |"
        )
    return "\n".join([*lines, "", "Layers in float32:", "", *_float32_layers(rows)]) + "\n"


def _float32_layers(rows):
    """A line for each class and reason, with the networks that have such layers."""
    found = collections.defaultdict(list)
    for row in rows[rows["mode"] == MODES[0]].itertuples():
        for phrase in filter(None, row.float32.split("; ")):
            count, description = phrase.split(" ", 1)
            found[description].append(f"{row.network} {count}")
    return [
        f"- {description}: {', '.join(networks)}" for description, networks in sorted(found.items())
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("applications", "backbones"))
    parser.add_argument("--networks", nargs="+", help="(default: all)")
    arguments = parser.parse_args()
    networks = applications() if arguments.kind == "applications" else backbones()
    networks = {name: networks[name] for name in arguments.networks or networks}
    path = RESULTS / f"real_networks_{arguments.kind}.csv"
    rows = measure_missing(networks, path)
    text = markdown(rows[rows.groupby("network")["mode"].transform("count") == len(MODES)])
    path.with_suffix(".md").write_text(text)
    print(text)
    return int(any(rows.faults))


if __name__ == "__main__":
    sys.exit(main())

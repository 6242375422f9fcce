"""Tables of the study, from the results file."""

import pandas as pd
from parity_results import final_rows, rows_of
from parity_statistics import ALLOWED_POINTS, compare, deviation
from parity_study import POLICIES, REFERENCE


def compare_networks(runs, results):
    """Returns the `Comparison`s of every network and policy that have a pair of finished runs."""
    last = final_rows(rows_of(results, runs))
    comparisons = []
    for name in dict.fromkeys(run.name for run in runs):
        reference = accuracies(last, name, REFERENCE)
        for policy in POLICIES[1:]:
            other = accuracies(last, name, policy)
            if set(reference.index) & set(other.index):
                comparisons.append(compare(name, reference, other, policy))
    return comparisons


def accuracies(last, name, policy):
    """Returns test accuracies by seed: a `pandas.Series`."""
    chosen = last[(last["name"] == name) & (last["policy"] == policy)]
    return chosen.set_index("seed")["val_accuracy"]


def comparison_table(comparisons):
    """Returns the comparisons as a `pandas.DataFrame`, a row for each network and policy."""
    return pd.DataFrame(
        [
            {
                "network": c.name,
                "policy": c.policy,
                "pairs": len(c.float32),
                "float32 mean": c.float32.mean(),
                "float32 sd": deviation(c.float32),
                "dfp16 mean": c.dfp16.mean(),
                "dfp16 sd": deviation(c.dfp16),
                "difference": c.difference,
                "interval low": c.interval[0],
                "interval high": c.interval[1],
                "p": c.p_value,
                "equal": c.is_equal,
            }
            for c in comparisons
        ]
    )


def comparison_markdown(comparisons, study):
    """Returns the comparisons as a table, with what it means and how the networks were trained."""
    lines = [
        "# Accuracy of dfp16 and float32",
        "",
        "Test accuracy in per cent after the last epoch; a pair is two runs of one seed, which "
        "decides the first weights, the order of the images and their augmentation. Difference is "
        "the policy minus float32 in points, with the 95 % interval of its mean and the p of the "
        f"paired t-test. Equal: the difference is at most {ALLOWED_POINTS} points, or the "
        "interval holds 0.",
        "",
        "| network | policy | pairs | float32 | sd | the policy | sd | difference | 95 % interval "
        "| p | equal |",
        "|---|---|" + "---:|" * 9,
    ]
    for c in comparisons:
        low, high = c.interval
        lines.append(
            f"| {c.name} | {c.policy} | {len(c.float32)} | {c.float32.mean():.2f} "
            f"| {deviation(c.float32):.2f} | {c.dfp16.mean():.2f} | {deviation(c.dfp16):.2f} "
            f"| {c.difference:+.2f} | {low:+.2f} to {high:+.2f} | {c.p_value:.2f} | {_verdict(c)} |"
        )
    trained = [_training(name, study) for name in dict.fromkeys(c.name for c in comparisons)]
    return "\n".join([*lines, "", *trained]) + "\n"


def _verdict(comparison):
    if len(comparison.float32) < 2:
        return "open"
    return "yes" if comparison.is_equal else "NO"


def _training(name, study):
    values = study["networks"][name]
    data = study["data"][values["data"]]
    return (
        f"- {name}: {data['train_images']:,} training and {data['test_images']:,} test images of "
        f"{values['data']}, {values['epochs']} epochs"
    )


def ablation_table(runs, results):
    """Returns a `pandas.DataFrame` with a row for each number format that has finished runs: mean
    test accuracy in per cent, and mean, lowest and highest difference to float32 of one seed."""
    last = final_rows(rows_of(results, runs))
    float32 = 100 * accuracies(last, "float32", "float32")
    rows = []
    for name, policy in dict.fromkeys((run.name, run.policy) for run in runs):
        accuracy = 100 * accuracies(last, name, policy)
        if len(accuracy):
            difference = accuracy - float32
            rows.append(
                {
                    "format": name,
                    "seeds": len(accuracy),
                    "mean": accuracy.mean(),
                    "sd": deviation(accuracy),
                    "difference": difference.mean(),
                    "lowest": difference.min(),
                    "highest": difference.max(),
                }
            )
    return pd.DataFrame(rows)


def ablation_markdown(table):
    """Returns the ablation as a table, with what the names of the formats mean."""
    lines = [
        "# Number formats",
        "",
        "Test accuracy in per cent after the last epoch, and mean, lowest and highest difference "
        "to float32 of the same seed in points. `activation`, `weight`, `gradient` and a number: "
        "magnitude bits of that role, the others keeping their defaults. `nearest` or "
        "`stochastic` and a number: the rounding, and the bits of all three roles. `flush` and a "
        "number: products in one INT32 sum, and as many bits as are safe for that in the worst "
        "case.",
        "",
        "| format | seeds | mean | sd | difference | lowest | highest |",
        "|---|" + "---:|" * 6,
    ]
    for row in table.itertuples(index=False):
        lines.append(
            f"| {row.format} | {row.seeds} | {row.mean:.2f} | {row.sd:.2f} "
            f"| {row.difference:+.2f} | {row.lowest:+.2f} | {row.highest:+.2f} |"
        )
    return "\n".join(lines) + "\n"


def noise_markdown(noise):
    """Returns the signal-to-noise ratios as a table: a row for each layer, a column for each role.

    Args:
        noise: `pandas.DataFrame` with "network", "layer", "role", "bits" and "decibels".
    """
    roles = list(dict.fromkeys(zip(noise["role"], noise["bits"], strict=True)))
    lines = [
        "# Signal-to-noise ratio of the quantised tensors",
        "",
        "In dB, of what each convolution and dense layer multiplies, after training under float32: "
        "the float32 tensor against its integers in the default number format.",
        "",
        "| network | layer | " + " | ".join(f"{role} ({bits} bits)" for role, bits in roles) + " |",
        "|---|---|" + "---:|" * len(roles),
    ]
    for (network, layer), rows in noise.groupby(["network", "layer"], sort=False):
        values = rows.set_index("role")["decibels"]
        cells = " | ".join(f"{values[role]:.1f}" for role, _ in roles)
        lines.append(f"| {network} | {layer} | {cells} |")
    return "\n".join(lines) + "\n"

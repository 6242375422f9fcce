"""The results as Markdown."""

import textwrap

from bit_budget_choice import (
    DEFAULT,
    SHORTEST_MEAN_RUN,
    at_end,
    choose,
    least_snr,
    mean_runs,
    measured_candidates,
    most_bits,
)
from bit_budget_schedule import OPERANDS
from bit_budget_table import GRID, name_of

ROLES = {"x": "activations", "w": "weights", "dy": "gradients"}


def markdown(data):
    """Returns the whole report.

    Args:
        data: dict of what was measured: data frames ``runs``, ``operands`` and ``results``, the
            dict ``training`` and, if speed was measured, the data frame ``speed`` and the dict
            ``machine``.
    """
    sections = [_header(data), _conclusion(data), _runs(data), _operands(data), _results(data)]
    if "speed" in data:
        sections.append(_speed(data))
    return "\n\n".join(sections) + "\n"


def _header(data):
    rows = [
        [name, t["image_size"], t["batch_size"], t["steps"], f"{t['loss']:.2f}", t["accuracy"]]
        for name, t in data["training"].items()
    ]
    headings = ["network", "image", "batch", "steps", "loss", "accuracy"]
    return f"""# The bit budget

How many magnitude bits activations, weights and gradients get. Every bit more halves the
quantisation error of its operand, and halves the number of products that provably fit an INT32 sum.
Written by `benchmarks/bit_budget/bit_budget.py`, which says how it measures. Tensors are those of
three networks in training under dfp16 (loss and accuracy on the training batches of the last 50
steps; ResNet-50 took most of its steps at 64x64):

{_table(headings, rows)}

Bits are written activations/weights/gradients.

![run length, noise and kernel time against bits](bit_budget.png)"""


def _conclusion(data):
    runs, results = data["runs"], data["results"]
    most = ", ".join(map(name_of, most_bits(runs)))
    choice = name_of(choose(runs, results))
    headings, rows = _candidates(data)
    rule = f"""The rule: as many bits as keep the mean proven run at {SHORTEST_MEAN_RUN} products
        or more in every direction, in every network at the end of its training. The most bits it
        allows are {most}. Of these, **{choice}** leaves the least noise in the noisiest direction
        and network. The default is {name_of(DEFAULT)}."""
    return f"""## Conclusion

{_paragraph(rule)}

Mean runs and signal-to-noise ratios of the results, each in the network where it is least, and
kernel time relative to never flushing:

{_table(headings, rows)}

{_worth_of_bits(results)}"""


def _candidates(data):
    """Headings and rows that summarise the measurements of each combination of bits."""
    headings = ["bits", "rule", *(f"run, {d}" for d in OPERANDS), *(f"dB, {d}" for d in OPERANDS)]
    headings += ["time"] if "speed" in data else []
    rows = []
    for candidate in measured_candidates(data["results"]):
        runs = mean_runs(data["runs"], candidate)
        snr = least_snr(data["results"], candidate)
        allowed = "yes" if min(runs.values()) >= SHORTEST_MEAN_RUN else "no"
        numbers = [f"{values[d]:.0f}" for values in (runs, snr) for d in OPERANDS]
        rows.append([name_of(candidate), allowed, *numbers])
        if "speed" in data:
            rows[-1].append(f"{_relative_time(data['speed'], candidate):.3f}")
    return headings, rows


def _worth_of_bits(results):
    """A paragraph that compares the noise of quantising with that of choosing a batch of images."""
    names = [name_of(candidate) for candidate in measured_candidates(results)]
    last = at_end(results)
    margin = last.groupby("format")["margin"].min()
    batch = last[last["format"] == "batch"]["median"]
    return _paragraph(
        f"""What the bits are worth: the weight gradient of one batch is itself a noisy estimate of
        that of all images; its signal-to-noise ratio is {batch.min():.0f} to {batch.max():.0f} dB
        in the median layer. In the layer where it matters most, the noise of quantising is below
        that noise by {margin[names[0]]:.0f} dB with {names[0]}, {margin[name_of(DEFAULT)]:.0f} dB
        with {name_of(DEFAULT)} and {margin[names[-1]]:.0f} dB with {names[-1]}. As far as that is
        tens of dB, training cannot tell these bits apart, and speed decides."""
    )


def _runs(data):
    runs = data["runs"].assign(bits=data["runs"]["broadcast_bits"] + data["runs"]["packed_bits"])
    networks = list(dict.fromkeys(runs["network"]))
    last = at_end(runs)
    cells = last.groupby(["bits", "direction", "network"])[["mean_run", "worst_run"]].mean()
    keys = [(direction, network) for direction in OPERANDS for network in networks]
    rows = [
        [bits, *(_run_cell(cells, bits, key) for key in keys)] for bits in sorted(set(runs["bits"]))
    ]
    longest = last.groupby(["direction", "network"])["longest_run"].max()
    rows.append(["never flushed", *(f"{longest[key]:.0f}" for key in keys)])
    grouped = last.groupby(["bits", "direction", "network"])["mean_run"]
    spread = (grouped.max() / grouped.min() - 1).max()
    headings = ["sum of bits", *(f"{direction}, {network}" for direction, network in keys)]
    candidates = dict.fromkeys((DEFAULT, choose(data["runs"], data["results"])))
    return f"""## Proven run length

Products in a run, on average over all runs of all elements of all layers' results (multiply-adds of
the network over its flushes, the one at the end of a reduction included), and in brackets those of
the layer where they are shortest, not counting layers whose whole reduction is shorter than 64. At
the end of training, by the sum of the bits of both operands: the proof limits a product of
magnitudes, so what each operand has of them does not matter (means of equal sums differ by
{100 * spread:.2g} % at most).

{_table(headings, rows)}

Mean runs during training, with the default and with what the rule gives. They are shortest after
the first step, since fresh weights have no outliers: their mean magnitude is close to the largest.

{_table(*_runs_during_training(data["runs"], candidates))}"""


def _run_cell(cells, bits, key):
    if (bits, *key) not in cells.index:
        return ""
    row = cells.loc[(bits, *key)]
    return f"{row['mean_run']:.0f} ({row['worst_run']:.0f})"


def _runs_during_training(runs, candidates):
    """Headings and rows of the mean runs at every point of training."""
    pairs = [(direction, candidate) for direction in OPERANDS for candidate in candidates]
    cells = runs.set_index(["network", "step", "direction", "broadcast_bits", "packed_bits"])
    rows = []
    for network, step in dict.fromkeys(zip(runs["network"], runs["step"], strict=True)):
        row = [network, step]
        for direction, candidate in pairs:
            bits = dict(zip(GRID, candidate, strict=True))
            key = (network, step, direction, *(bits[role] for role in OPERANDS[direction]))
            row.append(f"{cells.loc[key, 'mean_run']:.0f}")
        rows.append(row)
    headings = [f"{direction}, {name_of(candidate)}" for direction, candidate in pairs]
    return ["network", "step", *headings], rows


def _operands(data):
    last = at_end(data["operands"])
    networks = list(dict.fromkeys(last["network"]))
    cells = last.set_index(["role", "format", "network"])
    rows = []
    for role, form in dict.fromkeys(zip(last["role"], last["format"], strict=True)):
        found = [cells.loc[(role, form, network)] for network in networks]
        rows.append([ROLES[role], form, *(f"{c['median']:.1f} ({c['worst']:.1f})" for c in found)])
    return f"""## Noise of the operands

Signal-to-quantisation-noise ratio in dB, rounding to nearest, at the end of training: median over
layers, in brackets the worst layer. bfloat16 for comparison.

{_table(["role", "bits", *networks], rows)}"""


def _results(data):
    results = data["results"]
    networks = list(dict.fromkeys(results["network"]))
    cells = results.set_index(["format", "direction", "network"])
    keys = [(direction, network) for direction in OPERANDS for network in networks]
    rows = []
    for form in dict.fromkeys(results["format"]):
        found = [cells.loc[(form, *key)] if (form, *key) in cells.index else None for key in keys]
        text = ["" if c is None else f"{c['median']:.0f} ({c['worst']:.0f})" for c in found]
        rows.append([form, *text])
    headings = ["bits", *(f"{direction}, {network}" for direction, network in keys)]
    return f"""## Noise of the results

Signal-to-noise ratio in dB of what the kernels compute from the captured tensors, against float64:
median over layers, in brackets the worst layer. `float32` is TensorFlow's convolution; `batch` is
the weight gradient of this batch as an estimate of that of all images, from the difference between
the batch's halves.

{_table(headings, rows)}"""


def _speed(data):
    speed, machine = data["speed"], data["machine"]
    total = speed.groupby(["bits", "direction"])["milliseconds"].sum()
    runs = 1 / (1 / speed["mean_run"]).groupby([speed["bits"], speed["direction"]]).mean()
    rows = []
    for bits in sorted(set(speed["bits"])):
        row = [bits or "never flushed"]
        for direction in OPERANDS:
            relative = total[bits, direction] / total[0, direction]
            row += [f"{runs[bits, direction]:.0f}", f"{relative:.3f}"]
        rows.append(row)
    headings = ["sum of bits", *(f"{d}, {what}" for d in OPERANDS for what in ("run", "time"))]
    how = f"""Sum of the medians of three layers of ResNet-50 (56x56 64->64 3x3, 28x28 128->512 1x1,
        14x14 256->256 3x3; batch 16), relative to operands of 8 bits, which are never flushed
        before a reduction ends, and the mean run of these tensors. {machine["cpu"]},
        {machine["isa"]}, {machine["num_threads"]} threads."""
    return f"""## Kernel time

{_paragraph(how)}

{_table(headings, rows)}"""


def _relative_time(speed, candidate):
    """Kernel time relative to never flushing, mean of the three directions."""
    bits = dict(zip(GRID, candidate, strict=True))
    total = speed.groupby(["bits", "direction"])["milliseconds"].sum()
    ratios = [
        total[bits[broadcast] + bits[packed], direction] / total[0, direction]
        for direction, (broadcast, packed) in OPERANDS.items()
    ]
    return sum(ratios) / len(ratios)


def _paragraph(text):
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False)


def _table(headings, rows):
    """A Markdown table; the first column is to the left."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

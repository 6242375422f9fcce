"""The table of what a monitor recorded: a row for each layer."""

import math

import rich.table

from dfpkeras.console import as_lines
from dfpkeras.integration.report import algorithm_names
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.monitor.rows import ROLES


class Summary:
    """The least of what was recorded of each tensor and product; printing it shows a table.

    Attributes:
        steps: number of sampled steps.
    """

    def __init__(self):
        self.steps = 0
        self._least = {}
        self._algorithms = {}

    def add(self, rows):
        """Adds the list of `Row` of some steps."""
        self.steps += len({row.step for row in rows})
        for row in rows:
            layer = self._least.setdefault(row.layer, {})
            for name in ("useful_bits", "sqnr_db", "run_length"):
                value, key = getattr(row, name), (name, row.role or row.direction)
                if value is not None and not math.isnan(value):
                    layer[key] = min(value, layer.get(key, math.inf))
            if row.algorithm:
                self._algorithms.setdefault(row.layer, {})[row.direction] = row.algorithm

    def __str__(self):
        if not self.steps:
            return "No layer computed on integers in a recorded step."
        roles, directions = " /\n".join(ROLES), " /\n".join(DIRECTIONS).replace("_", "-")
        table = rich.table.Table()
        table.add_column("layer", overflow="fold", min_width=10)
        table.add_column(f"useful bits:\n{roles}", justify="right", min_width=18)
        table.add_column(f"SQNR (dB):\n{roles}", justify="right", min_width=12)
        table.add_column(f"products in a run:\n{directions}", justify="right", min_width=12)
        table.add_column("algorithms", overflow="fold")
        for layer, least in self._least.items():
            table.add_row(
                layer,
                _cells(least, "useful_bits", ROLES, ".1f"),
                _cells(least, "sqnr_db", ROLES, ".0f"),
                _cells(least, "run_length", DIRECTIONS, ".0f"),
                algorithm_names(self._algorithms.get(layer)),
            )
        steps = f"{self.steps} step" if self.steps == 1 else f"{self.steps} steps"
        return as_lines(table, f"The least of what was recorded in {steps} (docs/monitor.md).")


def _cells(least, name, keys, number_format):
    """The numbers of the roles or directions, "-" for those that a layer does not have."""
    numbers = [least.get((name, key)) for key in keys]
    if all(number is None for number in numbers):
        return ""
    return " / ".join("-" if n is None else format(n, number_format) for n in numbers)

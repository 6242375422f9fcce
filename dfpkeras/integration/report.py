"""A table of what a model computes on integers and what in float32."""

import dataclasses
import io
import shutil

import keras
import rich.table

from dfpkeras.console import make_console
from dfpkeras.integration.calls import observe
from dfpkeras.integration.keras_internals import Functional, inner_layers, operations_of
from dfpkeras.integration.registry import family_of
from dfpkeras.runtime.argument_checks import check_integer

_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer of a report.

    Attributes:
        path: str, names from the outermost model down, joined by "/".
        class_name: str.
        computes: "int16" or "float32".
        reason: str.
        algorithms: {direction: str} of its convolution kernels at the report's batch size (those of
            another batch size may differ), None if there is no choice or sizes are unknown.
    """

    path: str
    class_name: str
    computes: str
    reason: str
    algorithms: dict | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What `report` returns; printing it shows a table.

    Attributes:
        rows: tuple of `LayerReport`, in the order of the model's layers.
    """

    rows: tuple

    def __str__(self):
        columns = ["layer", "class", "computes in", "reason"]
        has_choice = any(set((row.algorithms or {}).values()) - {"direct"} for row in self.rows)
        table = rich.table.Table(*columns, *(["algorithms"] if has_choice else []))
        for row in self.rows:
            cells = [row.path, row.class_name, row.computes, row.reason]
            table.add_row(*cells, *([_names(row.algorithms)] if has_choice else []))
        integer = sum(row.computes == "int16" for row in self.rows)
        text = io.StringIO()
        width = shutil.get_terminal_size((_WIDTH, 0)).columns
        console = make_console(file=text, width=min(width, _WIDTH), color_system=None)
        console.print(table)
        console.print(f"{integer} of {len(self.rows)} layers compute in int16.")
        return text.getvalue()


def _names(algorithms):
    """One name where all directions have the same, otherwise one for each."""
    names = list((algorithms or {}).values())
    return " / ".join(names if len(set(names)) > 1 else names[:1])


def report(model: keras.Layer, batch_size: int = 32) -> Report:
    """Lists the layers of a Keras model, and whether each runs on the integer kernels.

    A layer that overrides Keras' ``call`` is judged by its latest call, if there was one: run the
    model once to see what such a layer does.

    Args:
        model: `keras.Model` or `keras.Layer`.
        batch_size: number of images for which the algorithms of convolutions are named: forward,
            backward_data and backward_weights. The table has them where any is not the direct one.

    Returns:
        `Report` with `rows` (path, class_name, computes, reason, algorithms); `print` shows a
        table.

    Raises:
        TypeError: `model` is not a Keras layer or model, or `batch_size` not an integer.
        ValueError: `batch_size` is not positive.
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(
            "Argument `model` of dfpkeras.report must be a keras.Model or keras.Layer. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )
    batch_size = check_integer("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    return Report(tuple(_rows(model, "", batch_size, seen=set())))


def _rows(layer, parent_path, batch_size, seen):
    """Yields the rows of `layer` and the layers inside; a shared layer appears once."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    path = f"{parent_path}{layer.name}"
    if not _only_connects(layer):
        decision = observe(layer)
        computes = "int16" if decision.integer else "float32"
        algorithms = family_of(layer).algorithms(layer, batch_size) if decision.integer else None
        yield LayerReport(path, type(layer).__name__, computes, decision.reason, algorithms)
    for inner in (*inner_layers(layer), *filter(family_of, operations_of(layer))):
        yield from _rows(inner, f"{path}/", batch_size, seen)


def _only_connects(layer):
    return isinstance(layer, (Functional, keras.Sequential))

"""A table of what a model computes on integers and what in float32."""

import dataclasses
import io
import shutil

import keras
import rich.table

from dfpkeras.console import make_console
from dfpkeras.integration.calls import observe
from dfpkeras.integration.keras_internals import Functional, inner_layers

_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer of a report.

    Attributes:
        path: str, names from the outermost model down, joined by "/".
        class_name: str.
        computes: "int16" or "float32".
        reason: str.
    """

    path: str
    class_name: str
    computes: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What `report` returns; printing it shows a table.

    Attributes:
        rows: tuple of `LayerReport`, in the order of the model's layers.
    """

    rows: tuple

    def __str__(self):
        table = rich.table.Table("layer", "class", "computes in", "reason")
        for row in self.rows:
            table.add_row(row.path, row.class_name, row.computes, row.reason)
        integer = sum(row.computes == "int16" for row in self.rows)
        text = io.StringIO()
        columns = shutil.get_terminal_size((_WIDTH, 0)).columns
        console = make_console(file=text, width=min(columns, _WIDTH), color_system=None)
        console.print(table)
        console.print(f"{integer} of {len(self.rows)} layers compute in int16.")
        return text.getvalue()


def report(model: keras.Layer) -> Report:
    """Lists the layers of a Keras model, and whether each runs on the integer kernels.

    A layer that overrides Keras' ``call`` is judged by its latest call, if there was one: run the
    model once to see what such a layer does.

    Args:
        model: `keras.Model` or `keras.Layer`.

    Returns:
        `Report` with `rows` (path, class_name, computes, reason); `print` shows a table.

    Raises:
        TypeError: `model` is not a Keras layer or model.
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(
            "Argument `model` of dfpkeras.report must be a keras.Model or keras.Layer. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )
    return Report(tuple(_rows(model, "", seen=set())))


def _rows(layer, parent_path, seen):
    """Yields the rows of `layer` and the layers inside; a shared layer appears once."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    path = f"{parent_path}{layer.name}"
    if not _only_connects(layer):
        decision = observe(layer)
        computes = "int16" if decision.integer else "float32"
        yield LayerReport(path, type(layer).__name__, computes, decision.reason)
    for inner in inner_layers(layer):
        yield from _rows(inner, f"{path}/", seen)


def _only_connects(layer):
    return isinstance(layer, (Functional, keras.Sequential))

"""A table of what a model computes on integers and what in float32."""

import dataclasses
import typing

import keras
import rich.table

from dfpkeras.console import as_lines
from dfpkeras.integration.calls import observe
from dfpkeras.integration.keras_internals import Functional
from dfpkeras.integration.layer_paths import named_layers
from dfpkeras.integration.layer_sizes import Moved, moved_by, multiply_adds_of, shapes_of
from dfpkeras.integration.registry import family_of
from dfpkeras.kernels.convolution_plan import DIRECTIONS
from dfpkeras.runtime.argument_checks import check_integer

# Layers of unknown size that are named.
_MOST_NAMES = 4


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
        multiply_adds: int, those of its products in a training step, None if unknown.
        moved: `dfpkeras.integration.layer_sizes.Moved`, the bytes that a training step reads and
            writes, None if unknown.
    """

    path: str
    class_name: str
    computes: str
    reason: str
    algorithms: dict | None = None
    multiply_adds: int | None = None
    moved: Moved | None = None


class Share(typing.NamedTuple):
    """How many of something are integer.

    Attributes:
        integer, total: ints.
    """

    integer: int
    total: int

    def __str__(self):
        return f"{self.integer / self.total:.1%}" if self.total else "none"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `report` returns; printing it shows a table.

    Attributes:
        rows: tuple of `LayerReport`, in the order of the model's layers.
        batch_size: int.
    """

    rows: tuple
    batch_size: int

    @property
    def multiply_adds(self):
        """`Share` of a training step's multiply-adds that are integer, of the layers whose number
        is known: `dfpkeras.integration.layer_sizes.multiply_adds_of`."""
        known = [row for row in self.rows if row.multiply_adds is not None]
        integer = sum(row.multiply_adds for row in known if row.computes == "int16")
        return Share(integer, sum(row.multiply_adds for row in known))

    @property
    def bytes(self):
        """`Share` of the bytes that a training step reads and writes that are integers, of the
        layers whose number is known: `dfpkeras.integration.layer_sizes.moved_by`."""
        known = [row.moved for row in self.rows if row.moved is not None]
        return Share(sum(moved.int16 for moved in known), sum(map(sum, known)))

    @property
    def unknown(self):
        """Tuple of the paths of the layers whose multiply-adds or bytes are unknown."""
        return tuple(
            row.path for row in self.rows if row.multiply_adds is None or row.moved is None
        )

    def __str__(self):
        columns = ["layer", "class", "computes in", "reason"]
        has_choice = any(set((row.algorithms or {}).values()) - {"direct"} for row in self.rows)
        table = rich.table.Table(*columns, *(["algorithms"] if has_choice else []))
        for row in self.rows:
            cells = [row.path, row.class_name, row.computes, row.reason]
            table.add_row(*cells, *([algorithm_names(row.algorithms)] if has_choice else []))
        integer = sum(row.computes == "int16" for row in self.rows)
        lines = [f"{integer} of {len(self.rows)} layers compute in int16."]
        return as_lines(table, *lines, *self._shares())

    def _shares(self):
        work, moved = self.multiply_adds, self.bytes
        if work.total or moved.total:
            yield (
                f"Integer in a training step of {self.batch_size} images: {work} of "
                f"{work.total / 1e9:.3g} billion multiply-adds, {moved} of {moved.total / 1e9:.3g} "
                "GB read and written by layers."
            )
        if self.unknown:
            named = ", ".join(self.unknown[:_MOST_NAMES])
            others = len(self.unknown) - _MOST_NAMES
            more = f" and {others} more" if others > 0 else ""
            yield f"Not counted, in whole or in part, since it is unknown: {named}{more}."


def algorithm_names(algorithms):
    """As text, {direction: algorithm} or None: one name where all directions have the same,
    otherwise one for each."""
    algorithms = algorithms or {}
    names = [algorithms[direction] for direction in DIRECTIONS if direction in algorithms]
    return " / ".join(names if len(set(names)) > 1 else names[:1])


def report(model: keras.Layer, batch_size: int = 32) -> Report:
    """Lists the layers of a Keras model, and whether each runs on the integer kernels.

    A layer that overrides Keras' ``call`` is judged by its latest call, if there was one: run the
    model once to see what such a layer does.

    Args:
        model: `keras.Model` or `keras.Layer`.
        batch_size: number of images for which multiply-adds and bytes are counted, and the
            algorithms of convolutions are named: forward, backward_data and backward_weights. The
            table has them where any is not the direct one.

    Returns:
        `Report` with `rows` (path, class_name, computes, reason, algorithms, multiply_adds, moved)
        and the share of a training step's `multiply_adds` and `bytes` that are integer; `print`
        shows a table.

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
    layers = [(path, each) for path, each in named_layers(model) if not _only_connects(each)]
    # How often these call the layers inside is their own affair.
    repeating = tuple(f"{path}/" for path, each in layers if isinstance(each, _REPEATING))
    return Report(
        tuple(
            _row(path, each, batch_size, is_repeated=path.startswith(repeating))
            for path, each in layers
        ),
        batch_size,
    )


_REPEATING = (keras.layers.RNN, keras.layers.Wrapper)


def _row(path, layer, batch_size, is_repeated):
    decision = observe(layer)
    computes = "int16" if decision.integer else "float32"
    algorithms = family_of(layer).algorithms(layer, batch_size) if decision.integer else None
    shapes = None if is_repeated else shapes_of(layer, batch_size)
    return LayerReport(
        path,
        type(layer).__name__,
        computes,
        decision.reason,
        algorithms,
        multiply_adds_of(layer, shapes),
        moved_by(layer, shapes, decision.integer),
    )


def _only_connects(layer):
    return isinstance(layer, (Functional, keras.Sequential))

"""The names of the layers of a model."""

from dfpkeras.integration.keras_internals import inner_layers, operations_of
from dfpkeras.integration.registry import family_of


def named_layers(layer, parent_path="", seen=None):
    """Yields (path, layer) for `layer` and the layers inside, in their order, and after them the
    operations of a functional model that have a family.

    A path is the names from the outermost model down, joined by "/". A shared layer appears once.
    """
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    path = f"{parent_path}{layer.name}"
    yield path, layer
    for inner in (*inner_layers(layer), *filter(family_of, operations_of(layer))):
        yield from named_layers(inner, f"{path}/", seen)

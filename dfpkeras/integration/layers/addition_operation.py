"""``a + b`` and ``keras.ops.add(a, b)`` in a functional model."""

from dfpkeras import ops
from dfpkeras.integration.keras_internals import Add
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.integration.results import common_number_format, with_number_format
from dfpkeras.ops.views import find_integers


def _call(operation, a, b):
    """Keras calls an operation's `call` for the nodes of functional models alone: what layers,
    losses and other functions add up does not come here."""
    number_format = common_number_format([a, b])
    if number_format is None:
        return NotImplemented
    if all(find_integers(x, number_format.activation) is None for x in (a, b)):
        return NotImplemented
    total = ops.add(a, b, number_format=number_format)
    return or_not_implemented(total if total is None else with_number_format(total, number_format))


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(Add, "call", _call, inputs=("x1", "x2")),),
        has_weights=False,
        layers="`a + b`, `keras.ops.add(a, b)` in a functional model",
        computation="INT16 out, one pass, if layers of one number format gave both tensors, "
        "and one of them integers",
    )
)

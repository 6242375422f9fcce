"""Which activations there are, and what the native module takes for one."""

import typing

from dfpkeras import _native

#: Activations whose gradient follows from their result.
_OF_RESULT = (None, "relu", "relu6")

#: Activations whose gradient needs their argument.
FUNCTIONS = tuple(_native.list_functions())

#: All, in the order of the C enumeration ``dfp_activation``.
ACTIVATIONS = (*_OF_RESULT, *FUNCTIONS)


class Activation(typing.NamedTuple):
    """An activation with a parameter; one without is given by its name alone.

    Attributes:
        name: one of `ACTIVATIONS`.
        alpha: the parameter of "elu" and "leaky_relu", which multiplies what is below 0.
    """

    name: str | None
    alpha: float = 1.0


def check_activation(activation):
    """Returns what the native module takes: (index, alpha)."""
    found = activation if isinstance(activation, Activation) else Activation(activation)
    if found.name not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation: expected one of {names}, got {activation!r}")
    return ACTIVATIONS.index(found.name), found.alpha


def is_function(activation):
    """Whether the gradient of an activation needs its argument."""
    return check_activation(activation)[0] >= len(_OF_RESULT)

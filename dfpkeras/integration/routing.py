"""Which layers of a policy compute on integers, and what happens where one does not."""

import dataclasses

from dfpkeras.runtime.argument_checks import check_bool

_FORMATS = ("float32", "int16")


@dataclasses.dataclass(frozen=True)
class Routing:
    """The arguments of `DFP16Policy` that say which layers compute on integers.

    Attributes:
        strict: bool, see `dfpkeras.integration.strict`.
        small_layers: "float32" or "int16", what layers that are too small to gain from integers
            compute in, see `dfpkeras.integration.small_layers`.

    Raises:
        TypeError: ``strict`` is not a bool.
        ValueError: ``small_layers`` is anything else.
    """

    strict: bool = False
    small_layers: str = "float32"

    def __post_init__(self):
        object.__setattr__(self, "strict", check_bool("strict", self.strict))
        if self.small_layers not in _FORMATS:
            raise ValueError(
                f"small_layers: expected one of {', '.join(_FORMATS)}, got {self.small_layers!r}"
            )

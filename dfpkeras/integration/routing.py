"""Which layers of a policy compute on integers, and what happens where one does not."""

import dataclasses

from dfpkeras.runtime.argument_checks import check_bool


@dataclasses.dataclass(frozen=True)
class Routing:
    """The arguments of `DFP16Policy` that say which layers compute on integers.

    Attributes:
        strict: bool, see `dfpkeras.integration.strict`.

    Raises:
        TypeError: ``strict`` is not a bool.
    """

    strict: bool = False

    def __post_init__(self):
        check_bool("strict", self.strict)

"""What computes a step: a Keras backend under a dtype policy."""

import dataclasses
import importlib.util


@dataclasses.dataclass(frozen=True)
class Contender:
    """One side of the comparison.

    Attributes:
        name: name in tables and files, and on the command line.
        backend: Keras backend, "tensorflow" or "torch".
        policy: dtype policy of every layer.
        autocast: name of the dtype of `torch.autocast`, or None without.
        compiles: whether the step goes through `torch.compile`.
    """

    name: str
    backend: str
    policy: str
    autocast: str | None = None
    compiles: bool = False

    @property
    def is_installed(self):
        """Whether the package of its backend is installed."""
        return importlib.util.find_spec(self.backend) is not None


OURS = "dfp16"

#: All of them, ours first, by name.
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(OURS, "tensorflow", "dfp16"),
        Contender("dfp16_direct", "tensorflow", "dfp16(algorithm=direct)"),
        Contender("tensorflow", "tensorflow", "float32"),
        Contender("pytorch", "torch", "float32"),
        Contender("pytorch_compiled", "torch", "float32", compiles=True),
        Contender("pytorch_bfloat16", "torch", "float32", "bfloat16"),
        Contender("pytorch_bfloat16_compiled", "torch", "float32", "bfloat16", compiles=True),
        Contender("mixed_bfloat16", "tensorflow", "mixed_bfloat16"),
    )
}

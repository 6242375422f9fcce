"""Environment variables that change the speed of a contender."""

import os

_VARIABLES = (
    "DFPKERAS_MAX_ISA",
    "DFPKERAS_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "TF_ENABLE_ONEDNN_OPTS",
)


def speed_variables():
    """A dict from name to value of those that are set."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}

"""Which instruction set the kernels use."""

import os

from dfpkeras import _native

VARIABLE = "DFPKERAS_MAX_ISA"

#: Every instruction set that kernels are written for, slowest first (include/dfp/isa/list.h).
ISAS = tuple(_native.list_known_isas())

_reason = ""


def available_isas() -> list[str]:
    """Names of the instruction sets that were compiled and run on this machine, slowest first."""
    return [name for name, runs in _native.list_isas() if runs]


def compiled_isas() -> list[str]:
    """Names of the instruction sets that were compiled, slowest first."""
    return [name for name, _ in _native.list_isas()]


def get_isa() -> str:
    """Name of the instruction set in use."""
    return _native.isa()


def set_isa(name: str) -> None:
    """Uses the named instruction set from now on. Results do not depend on it.

    Raises:
        ValueError: if ``name`` is not one of `available_isas()`.
    """
    if name not in available_isas():
        raise ValueError(f"name: expected one of {', '.join(available_isas())}, got {name!r}")
    _select(name, "set_isa")


def reason():
    """Why this instruction set is in use, for `dfpkeras info`."""
    return _reason


def set_default():
    """Selects the fastest instruction set that runs here, capped by DFPKERAS_MAX_ISA."""
    most = os.environ.get(VARIABLE) or None
    if most is not None and most not in ISAS:
        raise ValueError(f"{VARIABLE}: expected one of {', '.join(ISAS)}, got {most!r}")
    why = "the fastest that this CPU and operating system run"
    _select(most, f"{why}, at most {VARIABLE}={most}" if most else why)


def _select(most, why):
    global _reason
    _native.select_isa(most)
    _reason = why

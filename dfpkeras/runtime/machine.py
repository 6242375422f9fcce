"""The machine that the kernels run on."""

from pathlib import Path

from dfpkeras import _native
from dfpkeras.runtime import isa, threads


def info() -> dict:
    """What the kernels run on: a dict of the CPU's name, instruction sets, threads and caches."""
    return {
        "cpu": _native.cpu_name(),
        "isa": isa.get_isa(),
        "isa_reason": isa.reason(),
        "compiled_isas": isa.compiled_isas(),
        "available_isas": isa.available_isas(),
        "num_threads": threads.get_num_threads(),
        "num_threads_reason": threads.reason(),
        "l1_bytes": _cache_bytes("Data", 1),
        "l2_bytes": _cache_bytes("Unified", 2),
    }


def _cache_bytes(kind, level):
    """Size of a cache of the first CPU according to Linux, None if unknown."""
    for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if _read(cache / "type") == kind and _read(cache / "level") == str(level):
            return int(_read(cache / "size").rstrip("K")) * 1024
    return None


def _read(path):
    return path.read_text().strip()

"""``dfpkeras info``."""

import keras

from dfpkeras import kernels
from dfpkeras.cli.versions import versions


def run_info():
    """Prints the versions, the CPU, the instruction set chosen and the threads, and why."""
    for heading, value in collect_info().items():
        print(f"{heading + ':':<22} {value}")


def collect_info():
    """Returns what ``dfpkeras info`` prints, as a dict of strings."""
    found = versions()
    backend = keras.backend.backend()
    machine = kernels.info()
    return {
        "dfpkeras": found["dfpkeras"],
        "Keras": found["keras"],
        "backend": f"{backend} {found[backend]}",
        "NumPy": found["numpy"],
        "Python": found["python"],
        "CPU": machine["cpu"],
        "caches": f"L1 {_kib(machine['l1_bytes'])}, L2 {_kib(machine['l2_bytes'])} per core",
        "compiled for": ", ".join(machine["compiled_isas"]),
        "usable here": ", ".join(machine["available_isas"]),
        "instruction set": f"{machine['isa']} ({machine['isa_reason']})",
        "threads": f"{machine['num_threads']} ({machine['num_threads_reason']})",
    }


def _kib(size):
    return f"{size // 1024} KiB"

"""Builds the C programs that run kernels, and the pool of threads, without Python."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "include" / "dfp"
FLAGS = ["-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", f"-I{SOURCES}"]


def compile_c(*arguments):
    """Runs the C compiler; fails with what it prints."""
    command = [*os.environ.get("CC", "cc").split(), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def build_isa_program(folder, *flags, link=()):
    """Compiles tests/native/isa_program.c with all kernels.

    Args:
        folder: `pathlib.Path` for the results.
        flags: compiler flags for every file, such as "-O3".
        link: flags for linking only.

    Returns:
        `pathlib.Path` of the program.
    """
    isas = {"scalar": [], **json.loads((SOURCES / "isa" / "flags.json").read_text())}

    def compile_isa(name):
        names = [f"-DDFP_ISA={name}", f'-DDFP_ISA_HEADER="isa/{name}.h"']
        kernels, result = SOURCES / "generic" / "kernels.c", folder / f"{name}.o"
        compile_c(*FLAGS, *flags, *isas[name], *names, "-c", kernels, "-o", result)
        return result

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_isa, isas))
    have = ["-DDFP_X86_ISAS", *(f"-DDFP_HAVE_{name.upper()}" for name in isas)]
    sources = [SOURCES / name for name in ("cache.c", "dispatch.c", "threads.c")]
    sources.append(ROOT / "tests" / "native" / "isa_program.c")
    program = folder / "isa_program"
    libraries = ["-lm", "-pthread"]
    compile_c(*FLAGS, *flags, *have, *sources, *objects, *link, "-o", program, *libraries)
    return program


def build_thread_program(folder, *flags):
    """Compiles tests/native/thread_program.c with the pools of threads and of memory."""
    program = folder / "thread_program"
    sources = [SOURCES / "threads.c", SOURCES / "pool.c", ROOT / "tests/native/thread_program.c"]
    compile_c(*FLAGS, *flags, *sources, "-o", program, "-pthread")
    return program

"""Builds the C programs that run kernels, and the pool of threads, without Python."""

import functools
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "include" / "dfp"
#: Of a caller of `isa_program small`.
FLOAT_MODES = ("default", "flush", "downward", "upward", "toward-zero")
FLAGS = ["-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", f"-I{SOURCES}"]


def compile_c(*arguments, compiler=None):
    """Runs the C compiler; fails with what it prints."""
    compiler = compiler or os.environ.get("CC", "cc")
    command = [*compiler.split(), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def build_isa_program(folder, *flags, isas=None, link=(), compiler=None):
    """Compiles tests/native/isa_program.c with the kernels.

    Args:
        folder: `pathlib.Path` for the results.
        flags: compiler flags for every file, such as "-O3".
        link: flags for linking only.
        isas: names of instruction sets of x86-64 besides those that every compiler knows; None
            for all there are, () for scalar alone.
        compiler: command of a C compiler; None for the one of this machine.

    Returns:
        `pathlib.Path` of the program.
    """
    known = {"scalar": []} | json.loads((SOURCES / "isa" / "flags.json").read_text())
    isas = known if isas is None else isas
    isas = {"scalar", "avx2", "avx512bw", *isas} if isas else {"scalar"}
    compile_ = functools.partial(compile_c, *FLAGS, *flags, compiler=compiler)

    def compile_isa(name):
        names = [f"-DDFP_ISA={name}", f'-DDFP_ISA_HEADER="isa/{name}.h"']
        kernels, result = SOURCES / "generic" / "kernels.c", folder / f"{name}.o"
        compile_(*known[name], *names, "-c", kernels, "-o", result)
        return result

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_isa, isas))
    have = [f"-DDFP_HAVE_{name.upper()}" for name in isas] + ["-DDFP_X86_ISAS"] * (len(isas) > 1)
    sources = [SOURCES / name for name in ("cache.c", "dispatch.c", "threads.c")]
    sources.append(ROOT / "tests" / "native" / "isa_program.c")
    program = folder / "isa_program"
    compile_(*have, *sources, *objects, *link, "-o", program, "-lm", "-pthread")
    return program


def build_thread_program(folder, *flags):
    """Compiles tests/native/thread_program.c with the pools of threads and of memory."""
    program = folder / "thread_program"
    sources = [SOURCES / "threads.c", SOURCES / "pool.c", ROOT / "tests/native/thread_program.c"]
    compile_c(*FLAGS, *flags, *sources, "-o", program, "-lm", "-pthread")
    return program

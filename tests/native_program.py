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


def build_isa_program(folder, *flags, link=(), x86=True, compiler=None):
    """Compiles tests/native/isa_program.c with all kernels.

    Args:
        folder: `pathlib.Path` for the results.
        flags: compiler flags for every file, such as "-O3".
        link: flags for linking only.
        x86: whether to compile the instruction sets of x86-64, not scalar alone.
        compiler: command of a C compiler; None for the one of this machine.

    Returns:
        `pathlib.Path` of the program.
    """
    isas = {"scalar": []}
    if x86:
        isas |= json.loads((SOURCES / "isa" / "flags.json").read_text())
    compile_ = functools.partial(compile_c, *FLAGS, *flags, compiler=compiler)

    def compile_isa(name):
        names = [f"-DDFP_ISA={name}", f'-DDFP_ISA_HEADER="isa/{name}.h"']
        kernels, result = SOURCES / "generic" / "kernels.c", folder / f"{name}.o"
        compile_(*isas[name], *names, "-c", kernels, "-o", result)
        return result

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_isa, isas))
    have = [f"-DDFP_HAVE_{name.upper()}" for name in isas] + ["-DDFP_X86_ISAS"] * x86
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

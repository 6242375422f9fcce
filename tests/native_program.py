"""Builds the C programs that run kernels, and the pool of threads, without Python."""

import functools
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADERS, SOURCES = ROOT / "include" / "dfp", ROOT / "src_pyx"
#: {name: (compiler flags, model of an emulated CPU)} of every instruction set, slowest first.
ISAS = {
    name: (flags.split(), model)
    for name, flags, model in re.findall(
        r'^DFP_ISA\((\w+), .*, "(.*)", "(.*)"\)$',
        (HEADERS / "isa" / "list.h").read_text(),
        re.MULTILINE,
    )
}
#: Floating-point modes of a caller of `isa_program small`.
FLOAT_MODES = ("default", "flush", "downward", "upward", "toward-zero")
FLAGS = ["-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", f"-I{HEADERS}"]


def compile_c(*arguments, compiler=None):
    """Runs the C compiler; fails with its output."""
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
        isas: names of instruction sets besides scalar; None for all.
        compiler: command of a C compiler; None for the one of this machine.

    Returns:
        `pathlib.Path` of the program.
    """
    isas = list(ISAS) if isas is None else ["scalar", *(name for name in isas if name != "scalar")]
    compile_ = functools.partial(compile_c, *FLAGS, *flags, compiler=compiler)

    def compile_isa(name):
        names = [f"-DDFP_ISA={name}", f'-DDFP_ISA_HEADER="isa/{name}.h"']
        kernels, result = SOURCES / "kernels.c", folder / f"{name}.o"
        compile_(*ISAS[name][0], *names, "-c", kernels, "-o", result)
        return result

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_isa, isas))
    have = [f"-DDFP_HAVE_{name}={int(name in isas)}" for name in ISAS]
    sources = [SOURCES / name for name in ("cache.c", "dispatch.c", "threads.c")]
    sources.append(ROOT / "tests" / "native" / "isa_program.c")
    program = folder / "isa_program"
    compile_(*have, *sources, *objects, *link, "-o", program, "-lm", "-pthread")
    return program


def build_thread_program(folder, *flags):
    """Compiles tests/native/thread_program.c with the pools of threads and of memory."""
    program = folder / "thread_program"
    sources = [SOURCES / f"{name}.c" for name in ("threads", "pool", "arena")]
    sources.append(ROOT / "tests" / "native" / "thread_program.c")
    compile_c(*FLAGS, *flags, *sources, "-o", program, "-lm", "-pthread")
    return program

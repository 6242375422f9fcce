"""Builds the one binary, dfpkeras._native: the kernels of include/dfp, compiled once for each
instruction set with that set's flags, and the Cython module of src_pyx."""

import os
import platform
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.platform not in ("linux", "darwin") or sys.byteorder != "little":
    sys.exit(
        "dfpkeras runs on Linux and macOS on little-endian machines (x86-64, arm64), not on "
        f"{platform.system()} {platform.machine()} ({sys.byteorder}-endian)."
    )

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# Results must be the same on every instruction set: no fused multiply-adds that nobody wrote.
# Aligned loops: where the compiler happens to put a micro-kernel's loop is worth up to 5 %, so that
# any change elsewhere seemed to make convolutions faster or slower (docs/design/kernels.md).
FLAGS = ["-O3", "-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", "-falign-loops=64"]

# {name: compiler flags} of every instruction set, slowest first.
ISAS = {
    name: flags.split()
    for name, flags in re.findall(
        r'^DFP_ISA\((\w+), .*, "(.*)", ".*"\)$',
        Path("include/dfp/isa/list.h").read_text(),
        re.MULTILINE,
    )
}

KERNELS = "src_pyx/kernels.c"
COMMON_SOURCES = [f"src_pyx/{name}.c" for name in ("arena", "cache", "dispatch", "pool", "threads")]
HEADERS = [str(path) for path in Path("include").rglob("*.h")]


class BuildKernels(build_ext):
    """build_ext with a set of flags per instruction set, which setuptools does not know."""

    def build_extension(self, extension):
        isas = {name: flags for name, flags in ISAS.items() if self.can_compile(flags)}
        extension.define_macros = [(f"DFP_HAVE_{name}", str(int(name in isas))) for name in ISAS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            extension.extra_objects = list(pool.map(self.compile_isa, isas, isas.values()))
        super().build_extension(extension)

    def can_compile(self, flags):
        """Without flags always; others are those of x86-64, which its compilers may not know."""
        is_x86 = platform.machine().lower() in ("x86_64", "amd64")
        return not flags or (is_x86 and self.compiler_takes(flags))

    def compiler_takes(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            Path(source).write_text("int probe;\n")
            try:
                self.compiler.compile([source], output_dir=folder, extra_postargs=flags)
            except CompileError:
                self.announce(f"the compiler does not take {' '.join(flags)}: left out", level=3)
                return False
        return True

    def compile_isa(self, name, flags):
        macros = [("DFP_ISA", name), ("DFP_ISA_HEADER", f'"isa/{name}.h"')]
        objects = self.compiler.compile(
            [KERNELS],
            output_dir=os.path.join(self.build_temp, name),
            macros=macros,
            include_dirs=["include/dfp"],
            extra_postargs=FLAGS + flags,
            depends=[KERNELS, *HEADERS],
        )
        return objects[0]


COMMAND = "dfpkeras.cli.command"

setup(
    # The command's entry point is a separate package: see its docstring.
    packages=[*find_packages(include=["dfpkeras*"], exclude=[COMMAND]), "dfpkeras_command"],
    package_dir={"dfpkeras_command": COMMAND.replace(".", "/")},
    ext_modules=cythonize(
        [
            Extension(
                "dfpkeras._native",
                ["src_pyx/_native.pyx", *COMMON_SOURCES],
                include_dirs=["include/dfp"],
                depends=HEADERS,
                extra_compile_args=FLAGS,
                extra_link_args=["-pthread", "-lm"],
            )
        ]
    ),
    cmdclass={"build_ext": BuildKernels},
)

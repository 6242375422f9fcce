"""Kernels on machines that are only emulated here: ``python tests/other_machines.py``.

aarch64 must print what this machine prints, in every floating-point mode of the caller, and
compilers for big-endian machines must refuse. Debian's packages: qemu-user, gcc-aarch64-linux-gnu,
libc6-dev-arm64-cross, gcc-s390x-linux-gnu.
"""

import subprocess
import tempfile
from pathlib import Path

from native_program import FLOAT_MODES, build_isa_program

RUNS = [["kernels", "scalar"], *(["small", "scalar", mode] for mode in FLOAT_MODES)]


def build(folder, compiler, *link):
    folder.mkdir()
    return build_isa_program(folder, "-O3", isas=(), compiler=compiler, link=link)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        here = build(Path(folder, "here"), None)
        arm = build(Path(folder, "aarch64"), "aarch64-linux-gnu-gcc", "-static")
        for arguments in RUNS:
            expected = output(here, *[a if a not in FLOAT_MODES else "default" for a in arguments])
            assert output("qemu-aarch64", arm, *arguments) == expected, arguments
            print("aarch64", *arguments, "gives the same")
        try:
            build(Path(folder, "s390x"), "s390x-linux-gnu-gcc")
        except AssertionError as error:
            assert "little-endian" in str(error), error
            print("s390x is refused")
        else:
            raise AssertionError("s390x was not refused")


if __name__ == "__main__":
    main()

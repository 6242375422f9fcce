"""Every kernel under the address, undefined-behaviour and thread sanitizers."""

import platform
import subprocess
import sys

import pytest
from native_program import build_isa_program

from dfpkeras.kernels import available_isas

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="the program lists the x86-64 instruction sets",
    ),
]


@pytest.fixture(scope="module")
def checked_program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanitizers")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # Unoptimised: it compiles in a third of the time, and no access is optimised away.
    return build_isa_program(folder, "-O0", "-g1", *sanitizers, isas=available_isas())


@pytest.fixture(scope="module")
def race_checked_program(tmp_path_factory):
    folder, flags = tmp_path_factory.mktemp("races"), ["-O1", "-g1", "-fsanitize=thread"]
    return build_isa_program(folder, *flags, isas=available_isas()[-1:])


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("isa", available_isas())
def test_address_and_undefined_behaviour(isa, checked_program):
    result = run(checked_program, "kernels", isa)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) > 1000


def test_the_address_sanitizer_sees_an_overread(checked_program):
    assert run(checked_program, "overread", "scalar").returncode != 0


def test_no_data_races(race_checked_program):
    result = run(race_checked_program, "concurrent", available_isas()[-1])
    assert result.returncode == 0, result.stderr

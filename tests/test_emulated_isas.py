"""Every instruction set, executed on an emulated CPU that has it and on one that lacks it."""

import collections
import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from native_program import FLOAT_MODES, ISAS, build_isa_program, compile_c

EMULATOR = Path(__file__).parent / "emulator"
#: Hashes of the results of all kernels, by kernel.
HASHES = Path(__file__).parent / "native" / "hashes.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="the emulator executes x86-64 Linux programs in this process's own memory",
    ),
]

# Bochs' models that have nothing beyond each instruction set.
MODELS = {name: model for name, (_, model) in ISAS.items()}
# Register states an operating system may enable: SSE, + AVX, + AVX-512.
SSE_STATE, YMM_STATE, ZMM_STATE = "3", "7", "e7"

INVALID_OPCODE, PAGE_FAULT = 6, 14


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """The folder with the compiled shim and the static program of all kernels, which writes every
    result past the caches: its results are too small for that elsewhere."""
    folder = tmp_path_factory.mktemp("emulator")
    build_isa_program(folder, "-O3", "-fPIE", "-DDFP_LARGE_RESULT=1", link=["-static-pie"])
    compile_c("-O2", "-shared", "-fPIC", EMULATOR / "shim.c", "-o", folder / "shim.so", "-ldl")
    return folder


def emulate(build, model, *arguments, state=ZMM_STATE, **environment):
    """Runs the program on an emulated CPU; status 128 + n means CPU exception n."""
    command = [sys.executable, EMULATOR / "linux.py", build / "shim.so", model, state]
    return subprocess.run(
        [*map(str, command), str(build / "isa_program"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def expected(build):
    """What the scalar kernels of this machine print."""
    result = subprocess.run(
        [build / "isa_program", "kernels", "scalar"], capture_output=True, text=True, check=True
    )
    assert len(result.stdout.splitlines()) > 1000
    return result.stdout


def test_results_are_what_they_always_were(expected):
    """Rewritten kernels keep their bits. Results that are meant to change are first specified in
    docs/numerics.md; then the output of this test goes into the file."""
    lines = collections.defaultdict(list)
    for line in expected.splitlines(keepends=True):
        lines[line.split()[0]].append(line)
    hashes = {
        name: hashlib.sha256("".join(text).encode()).hexdigest()[:16]
        for name, text in sorted(lines.items())
    }
    assert hashes == json.loads(HASHES.read_text()), json.dumps(hashes, indent=1)


@pytest.mark.parametrize("isa", MODELS)
def test_results_are_those_of_scalar(isa, build, expected):
    """Bit for bit, within the operands' pages, and with no instruction that the model lacks."""
    result = emulate(build, MODELS[isa], "kernels", isa)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected


@pytest.mark.parametrize("mode", FLOAT_MODES[1:])
def test_the_floating_point_mode_of_the_caller_does_not_matter(mode, build):
    """Nor the mode in which threads are started."""

    def output(mode):
        command = [build / "isa_program", "small", "scalar", mode]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert output(mode) == output("default")


@pytest.mark.parametrize(
    ("isa", "model"),
    [
        ("avx2", MODELS["scalar"]),
        ("avxvnni", MODELS["avx2"]),
        ("avx512bw", MODELS["avx2"]),
        ("avx512vnni", MODELS["avx512bw"]),
    ],
)
def test_a_model_without_the_instructions_refuses_them(isa, model, build):
    assert emulate(build, model, "kernels", isa).returncode == 128 + INVALID_OPCODE


@pytest.mark.parametrize("isa", MODELS)
def test_an_overread_is_noticed(isa, build):
    assert emulate(build, MODELS[isa], "overread", isa).returncode == 128 + PAGE_FAULT


@pytest.mark.parametrize("isa", MODELS)
def test_each_model_gets_its_instruction_set(isa, build):
    assert emulate(build, MODELS[isa], "dispatch").stdout.strip() == isa


@pytest.mark.parametrize(
    ("state", "isa"), [(SSE_STATE, "scalar"), (YMM_STATE, "avxvnni"), (ZMM_STATE, "avx512vnni")]
)
def test_only_registers_that_the_operating_system_saves_are_used(state, isa, build):
    result = emulate(build, "sapphire_rapids", "dispatch", state=state)
    assert result.stdout.strip() == isa


@pytest.mark.parametrize("most", MODELS)
def test_the_variable_caps_the_instruction_set(most, build):
    result = emulate(build, "sapphire_rapids", "dispatch", DFPKERAS_MAX_ISA=most)
    assert result.stdout.strip() == most


def test_an_unknown_cap_selects_nothing(build):
    result = emulate(build, "sapphire_rapids", "dispatch", DFPKERAS_MAX_ISA="sse9")
    assert result.stdout.strip() == "none"

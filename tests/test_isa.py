"""The choice of the instruction set, and what `kernels.info` says about it."""

import pytest

from dfpkeras import kernels
from dfpkeras.runtime import isa


@pytest.fixture
def isa_in_use():
    before = kernels.get_isa()
    yield before
    kernels.set_isa(before)


def test_the_fastest_is_the_default(run_python_without_keras):
    code = "from dfpkeras import kernels; print(kernels.get_isa(), kernels.available_isas()[-1])"
    result = run_python_without_keras(code, DFPKERAS_MAX_ISA="")
    chosen, fastest = result.stdout.split()
    assert chosen == fastest


@pytest.mark.parametrize("most", isa.ISAS)
def test_variable_caps_the_instruction_set(most, monkeypatch, isa_in_use):
    allowed = isa.ISAS[: isa.ISAS.index(most) + 1]
    monkeypatch.setenv("DFPKERAS_MAX_ISA", most)
    isa.set_default()
    assert kernels.get_isa() == [name for name in kernels.available_isas() if name in allowed][-1]
    assert f"DFPKERAS_MAX_ISA={most}" in isa.reason()


def test_variable_is_read_on_import(run_python_without_keras):
    code = "from dfpkeras import kernels; print(kernels.get_isa())"
    assert run_python_without_keras(code, DFPKERAS_MAX_ISA="scalar").stdout.strip() == "scalar"


def test_unknown_variable(monkeypatch, isa_in_use):
    monkeypatch.setenv("DFPKERAS_MAX_ISA", "sse9")
    with pytest.raises(
        ValueError, match=r"DFPKERAS_MAX_ISA: expected one of scalar, avx2.* got 'sse9'"
    ):
        isa.set_default()
    assert kernels.get_isa() == isa_in_use


def test_available_are_compiled_and_start_with_scalar():
    available = kernels.available_isas()
    assert available[0] == "scalar"
    assert set(available) <= set(isa.compiled_isas()) <= set(isa.ISAS)


def test_info_describes_this_machine(isa_in_use):
    kernels.set_isa("scalar")
    info = kernels.info()
    assert info["isa"] == "scalar"
    assert info["isa_reason"] == "set_isa"
    assert info["available_isas"] == kernels.available_isas()
    assert info["num_threads"] >= 1
    assert info["l1_bytes"] is None or info["l1_bytes"] >= 8 * 1024

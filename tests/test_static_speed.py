"""The inner loops that `benchmarks/static_speed.py` finds in the compiled micro-kernels."""

import importlib.util
import platform
from pathlib import Path

import pytest
from native_program import ISAS

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "static_speed.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="assembly of x86-64"),
]


@pytest.fixture(scope="module")
def static_speed():
    spec = importlib.util.spec_from_file_location("static_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("isa", ["avx512bw", "avx512vnni"])
def test_inner_loops_keep_their_sums_in_registers(static_speed, isa):
    """A sum in memory costs a load and a store for each multiply-add."""
    assert isa in ISAS
    loops = static_speed.inner_loops(static_speed.compile_kernels(isa), isa)
    products = {tile: static_speed.multiply_adds(loop, isa) for tile, loop in loops.items()}
    assert products == {"6x16": 6, "6x32": 12, "6x32, resident": 12, "6x48": 18, "6x64": 24}
    assert {tile: static_speed.spills(loop) for tile, loop in loops.items()} == dict.fromkeys(
        products, 0
    )

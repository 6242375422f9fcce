"""Where results would be wrong, or nothing is tested, the build stops with a clear message."""

import runpy
import sys

import pytest
from native_program import HEADERS, ROOT, compile_c


@pytest.mark.parametrize(
    ("define", "needed"),
    [
        ("-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__", "little-endian machines only"),
        ("-D__FLT_EVAL_METHOD__=2", "rounds to FP32"),
    ],
)
def test_the_kernels_refuse_other_arithmetic(define, needed):
    undefine = define.replace("-D", "-U").partition("=")[0]
    source = HEADERS / "types.h"
    compile_c("-fsyntax-only", "-x", "c", source)
    with pytest.raises(AssertionError, match=needed):
        compile_c("-w", "-fsyntax-only", undefine, define, "-x", "c", source)


@pytest.mark.parametrize(("name", "value"), [("platform", "win32"), ("byteorder", "big")])
def test_the_build_refuses_other_systems(name, value, monkeypatch):
    monkeypatch.setattr(sys, name, value)
    with pytest.raises(SystemExit, match="Linux and macOS on little-endian machines"):
        runpy.run_path(str(ROOT / "setup.py"))

"""README and docs/ are correct: code runs, commands exist, links have targets."""

import re
import shlex

import keras
import numpy as np
import pytest
from native_program import ROOT

from dfpkeras.cli import main

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_code_runs(page, capsys):
    """Each page from its top, with images and labels that the reader would have."""
    before = keras.config.dtype_policy()
    images = np.random.default_rng(0).random((16, 64, 64, 3), np.float32)
    names = {"images": images, "labels": np.arange(16) % 10}
    try:
        for block in blocks(page, "python"):
            exec(compile(block, page.name, "exec"), names)
    finally:
        keras.config.set_dtype_policy(before)
    if page.name == "README.md":
        assert "of 177 layers compute in int16" in capsys.readouterr().out


def test_excerpts_are_from_a_file_that_runs():
    """tests/test_structure.py uses the toy layer, parts of which adding-a-layer.md shows."""
    page, lines = ROOT / "docs" / "adding-a-layer.md", set()
    for block in re.findall(r"^   ```\n(.*?)^   ```$", page.read_text(), re.MULTILINE | re.DOTALL):
        lines |= {line.removeprefix("   ") for line in block.splitlines() if line.strip()}
    code = (ROOT / "tests" / "toy_layer.py").read_text().splitlines()
    assert lines and lines <= set(code), lines - set(code)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                for command in line.split("&&"):
                    yield shlex.split(command)


def test_commands_exist():
    """Those of dfpkeras have these options, those of Python these files."""
    seen = set()
    for program, *arguments in commands():
        seen.add(program)
        if program == "dfpkeras":
            main._parser().parse_args(arguments)
        elif program == "python":
            assert (ROOT / arguments[0]).exists()
        else:
            assert program in ("pip", "pytest", "pre-commit")
    assert {"dfpkeras", "python", "pytest"} <= seen


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), target

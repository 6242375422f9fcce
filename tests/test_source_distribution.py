"""The source distribution has everything that a wheel is built from."""

import shutil
import subprocess
import sys
import tarfile

import pytest
from native_program import ROOT

pytestmark = pytest.mark.slow

SOURCES = ("include", "src_pyx", "dfpkeras", "setup.py", "pyproject.toml", "LICENSE", "README.md")

# `python -m build --sdist` without its virtual environment.
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"


def known_to_git():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_nothing_is_missing(tmp_path):
    checkout, known = tmp_path / "checkout", known_to_git()
    for name in known:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    command = [sys.executable, "-P", "-c", BUILD, str(tmp_path)]
    built = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.split("/", 1)[-1] for name in opened.getnames()}
    assert {name for name in known if name.startswith(SOURCES)} - packed == set()

"""Runs the tests with the oldest versions that pyproject.toml promises.

    python tests/oldest_versions.py [pytest's arguments]

A separate virtual environment gets the lower bound of each dependency. The newest versions need no
special environment: `pip install ".[test]" && pytest`.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def oldest():
    """Returns "name==bound" for every "name>=bound" that using or testing dfpkeras needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["train"] + extras["test"]
    bounds = [re.match(r"([\w-]+)>=([\w.]+)", requirement) for requirement in needed]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] not in BUILD]


# Building happens in an environment that pip creates with the newest versions.
BUILD = ("setuptools", "Cython")


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(oldest()))
        install = ["-m", "pip", "install", "-q", "-c", str(constraints), f"{ROOT}[test]"]
        subprocess.run([python, *install], check=True)
        # -P: the installed package, not the sources in this folder, which have no compiled module.
        return subprocess.run([python, "-P", "-m", "pytest", *arguments], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`pip install .` without an extra gives kernels without a backend; supported versions."""

import importlib
import json
import re
import tomllib

import keras
import pytest
from native_program import ROOT

import dfpkeras
from dfpkeras.integration import installation, wiring

PROGRAM = """
import importlib, json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "jax", "torch", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import numpy as np
import dfpkeras
x = dfpkeras.quantize(np.arange(9, dtype="float32").reshape(1, 3, 3, 1))
y = dfpkeras.kernels.conv2d_forward(x, dfpkeras.quantize(np.ones((2, 2, 1, 1), "float32")))
said = {}
for name in ("report", "DFP16Policy", "float32_only", "layers", "models", "training", "nothing"):
    for use in (getattr, lambda package, name: importlib.import_module(f"dfpkeras.{name}")):
        try:
            use(dfpkeras, name)
        except Exception as error:
            said.setdefault(name, []).append(f"{type(error).__name__}: {error}")
print(json.dumps([dfpkeras.kernels.get_isa(), y.ravel().tolist(), said]))
"""
PROMISED = {
    "keras": ("Keras", installation.KERAS[0]),
    "tensorflow": ("TensorFlow", installation.TENSORFLOW[0]),
}
TESTED = installation.TESTED
NEEDS_KERAS = (
    "ModuleNotFoundError: dfpkeras.{} needs Keras with its TensorFlow backend, and {} is not "
    'installed: pip install "dfpkeras[tensorflow]"'
)


@pytest.mark.parametrize(("backend", "missing"), [("tensorflow", "tensorflow"), ("numpy", "scipy")])
def test_kernels_need_no_backend_and_the_rest_says_what_is_missing(run_python, backend, missing):
    result = run_python(PROGRAM, KERAS_BACKEND=backend)
    assert result.returncode == 0, result.stderr
    isa, product, said = json.loads(result.stdout)
    assert isa == dfpkeras.kernels.get_isa()
    assert product == [8, 12, 20, 24]
    for name in ("layers", "training"):
        assert said[name] == [NEEDS_KERAS.format(name, missing)] * 2
    for name in ("report", "DFP16Policy", "float32_only"):
        assert said[name][0] == NEEDS_KERAS.format(name, missing)
    assert said["models"][1] == NEEDS_KERAS.format("models", missing)
    assert said["nothing"][0] == "AttributeError: module 'dfpkeras' has no attribute 'nothing'"


def test_a_broken_backend_is_not_reported_as_missing(run_python, tmp_path):
    (tmp_path / "tensorflow.py").write_text("import part_of_tensorflow")
    result = run_python("import dfpkeras", PYTHONPATH=str(tmp_path), KERAS_BACKEND="tensorflow")
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'part_of_tensorflow'" in result.stderr


@pytest.mark.parametrize(("package", "old"), [("keras", "3.12.4"), ("tensorflow", "2.9.3")])
def test_older_versions_are_refused_by_name(package, old, monkeypatch):
    monkeypatch.setattr(importlib.import_module(package), "__version__", old)
    name, first = PROMISED[package]
    with pytest.raises(ImportError) as refused:
        installation.install()
    assert str(refused.value) == (
        f"dfpkeras works with {TESTED}; {name} {old} is too old: "
        f'pip install --upgrade "{package}>={first}"'
    )


def test_newer_versions_are_accepted_if_they_fit(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.101.0")
    assert installation.install()
    monkeypatch.setattr(wiring, "install", lambda: keras.layers.NoLonger)
    with pytest.raises(ImportError) as refused:
        installation.install()
    assert re.fullmatch(
        rf"dfpkeras does not work with Keras 3\.101\.0 \(.*'NoLonger'\): it works with {TESTED}",
        str(refused.value),
    )


def test_a_supported_version_that_does_not_fit_is_a_bug_in_dfpkeras(monkeypatch):
    monkeypatch.setattr(wiring, "install", lambda: keras.layers.NoLonger)
    with pytest.raises(AttributeError, match="NoLonger"):
        installation.install()


def test_the_versions_promised_are_those_of_the_package_and_of_the_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tensorflow = f"tensorflow>={PROMISED['tensorflow'][1]}"
    assert project["dependencies"][0] == f"keras>={PROMISED['keras'][1]},<4"
    for extra in ("train", "tensorflow"):
        assert project["optional-dependencies"][extra][0] == tensorflow
    assert TESTED in " ".join((ROOT / "README.md").read_text().split())

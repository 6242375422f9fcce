"""The structure of the package: its imports, one place for each task, nothing left after
uninstall."""

import importlib
import inspect
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_support import dtype_policy, random_array
from native_program import ROOT

import dfpkeras
from dfpkeras import backend
from dfpkeras.backend.tensorflow import TensorFlowBackend
from dfpkeras.benchmark.step.layer_kinds import all_kinds, kind_of_kernel, kinds_of_layers
from dfpkeras.integration import keras_internals, registry
from dfpkeras.integration.layer_table import layer_table
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.runtime.wrapping import UnknownSignatureError, Wrappers

PACKAGE = ROOT / "dfpkeras"


def lint_imports(folder):
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-P", "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_point_down():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("kernels/pooling.py", "import keras"),
        ("ops/views.py", "import tensorflow as tf"),
        ("runtime/threads.py", "from dfpkeras.kernels import quantized_tensor"),
        ("ops/views.py", "from dfpkeras.integration import policy"),
    ],
)
def test_an_import_that_points_up_is_detected(path, statement, tmp_path):
    copied = ["dfpkeras", "pyproject.toml"]
    subprocess.run(["cp", "-r", *(ROOT / name for name in copied), tmp_path], check=True)
    file = tmp_path / "dfpkeras" / path
    file.write_text(f"{file.read_text()}\n{statement}\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0 and "BROKEN" in result.stdout, result.stdout


def files_with(pattern):
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(pattern, path.read_text(), re.MULTILINE)
    }


def test_one_module_knows_keras_internals():
    assert files_with(r"^\s*(from|import) keras\.src") == {"integration/keras_internals.py"}


def test_one_folder_knows_tensorflows_internals():
    found = files_with(r"^\s*(from|import) tensorflow\.python")
    assert {Path(path).parent.as_posix() for path in found} == {"backend/tensorflow"}


def test_no_code_is_chosen_by_its_name():
    """Families of layers are imported all, users' functions found by name, and optional packages by
    trying to import them."""
    allowed = {"integration/layers/__init__.py", "models/functions.py", "cli/requirements.py"}
    assert files_with(r"import_module\(|__import__\(") == allowed


def test_programs_of_the_tests_see_the_installed_package():
    """Without ``-P``, the sources in the current folder hide it, and they need not be built."""
    started = re.compile(r'sys\.executable,\s*"-c"')
    assert [
        path.name for path in (ROOT / "tests").glob("*.py") if started.search(path.read_text())
    ] == []


# A layer is one file


@pytest.fixture
def toy_layer():
    module = importlib.import_module("toy_layer")
    if module.FAMILY not in registry.families():
        registry.register(module.FAMILY)
    dfpkeras.install()
    yield module
    registry.unregister(module.FAMILY)


def test_a_layer_that_was_declared_in_one_file_is_everywhere(toy_layer):
    with dtype_policy():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Conv2D(4, 3),
                keras.layers.ReLU(),
                toy_layer.Twice(name="twice"),
                keras.layers.Conv2D(4, 3),
            ]
        )
    model.compile("sgd", "mse")
    model.train_on_batch(random_array(2, 6, 6, 3), np.zeros((2, 2, 2, 4), np.float32))
    assert hits["twice"] == 2  # forward and backward
    rows = {row.path: row for row in dfpkeras.report(model).rows}
    assert rows[f"{model.name}/twice"].computes == "int16"
    assert kinds_of_layers(model)["twice"] == "doubling"
    assert kind_of_kernel("twice") == "doubling"
    assert "doubling" in all_kinds()
    assert "| `Twice` | INT16 in and out |" in layer_table()
    # The plugin that runs Keras' own tests gives its input integers.
    fed = {m.cls for f in registry.families() if not f.has_weights for m in f.methods}
    assert toy_layer.Twice in fed


def test_the_documentation_lists_the_layers():
    assert layer_table() in (ROOT / "docs" / "layers.md").read_text()


# A backend is one folder and its line beside it


class ToyBackend(TensorFlowBackend):
    installed = False

    def install(self):
        self.installed = True

    def uninstall(self):
        self.installed = False


def test_a_backend_that_has_a_line_is_used(monkeypatch):
    before = backend.current()
    monkeypatch.setattr(keras.backend, "backend", lambda: "toy")
    with pytest.raises(RuntimeError, match=r"KERAS_BACKEND=tensorflow "):
        keras.DTypePolicy("dfp16")
    monkeypatch.setitem(backend.BACKENDS, "toy", ToyBackend)
    try:
        dfpkeras.install()
        used = backend.current()
        assert type(used) is ToyBackend and used.installed
        layer = keras.layers.Dense(2, dtype="dfp16")
        hits.reset()
        layer(random_array(2, 3))
        assert hits["dense_forward"] == 1
        dfpkeras.uninstall()
        assert not used.installed
    finally:
        monkeypatch.undo()
        dfpkeras.install()
    assert type(backend.current()) is type(before)


# What is wrapped


def test_uninstall_leaves_keras_as_it_was():
    wrapped = [
        (owner, name, getattr(owner, name)) for owner, name in keras_internals._wrappers._originals
    ]
    assert len(wrapped) > 20
    x, layer = random_array(2, 3), keras.layers.Dense(2, dtype="dfp16")
    layer(x)
    hits.reset()
    dfpkeras.uninstall()
    try:
        for owner, name, wrapper in wrapped:
            assert not hasattr(getattr(owner, name), "_made_by"), (owner, name)
            assert getattr(owner, name) is not wrapper
        layer(x)
        assert not hits
        with pytest.raises((TypeError, ValueError)):
            keras.DTypePolicy("dfp16")
    finally:
        dfpkeras.install()
    layer(x)
    assert hits["dense_forward"] == 1


def test_wrapping_twice_and_undoing_restores_everything():
    class Base:
        def call(self, inputs):
            return "base"

    class Derived(Base):
        pass

    original, wrappers = Base.call, Wrappers()
    for _ in range(2):
        wrap = partial(wrappers.wrap, Derived, "call", parameters=())
        wrap(lambda original, *args: "wrapped " + original(*args))
    assert Derived().call(0) == "wrapped base" and Base().call(0) == "base"
    wrappers.undo()
    assert "call" not in vars(Derived) and Derived.call is original


def test_other_signatures_are_refused():
    class Layer:
        def call(self, x):
            return x

    with pytest.raises(UnknownSignatureError, match=r"Layer.call takes \(self, x\), "):
        Wrappers().wrap(Layer, "call", print, parameters=("self", "inputs"))
    with pytest.raises(UnknownSignatureError, match=r"Layer.run is missing"):
        Wrappers().wrap(Layer, "run", print, parameters=())


def annotations(function):
    signature = inspect.signature(function)
    return [*(p.annotation for p in signature.parameters.values()), signature.return_annotation]


def test_the_public_interface_has_types():
    """All but the parts of batch norm."""
    names = [name for name in dfpkeras.kernels.__all__ if not name.startswith("batch_norm")]
    functions = [getattr(dfpkeras.kernels, name) for name in names]
    functions += [dfpkeras.quantize, dfpkeras.report, dfpkeras.uninstall, dfpkeras.memory_stats]
    missing = {
        function.__name__
        for function in functions
        for annotation in annotations(function)
        if annotation is inspect.Signature.empty
    }
    assert not missing
    assert (PACKAGE / "py.typed").exists()

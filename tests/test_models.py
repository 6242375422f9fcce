"""The small ResNet, and finding models by name or by function."""

import sys

import keras
import numpy as np
import pytest

from dfpkeras.models import build_model, find_name, model_names, resnet_small, scales_its_input


def test_resnet_small_has_the_layers_of_the_paper():
    """He et al. 2015, section 4.2: 6n + 2 layers with weights, shortcuts not counted."""
    model = resnet_small((28, 28, 1), 10, width=16, blocks_per_stage=2)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    shortcuts = [layer for layer in convolutions if layer.kernel_size == (1, 1)]
    assert len(convolutions) - len(shortcuts) + 1 == 6 * 2 + 2
    assert [layer.strides for layer in shortcuts] == [(2, 2), (2, 2)]
    assert {layer.filters for layer in convolutions} == {16, 32, 64}
    assert not any(layer.use_bias for layer in convolutions)
    assert model.get_layer("stage3_block2_relu").output.shape == (None, 7, 7, 64)
    assert model.output_shape == (None, 10)


def test_resnet_small_is_made_of_ordinary_layers():
    allowed = {
        "InputLayer",
        "Conv2D",
        "BatchNormalization",
        "ReLU",
        "Add",
        "GlobalAveragePooling2D",
        "Dense",
    }
    model = resnet_small((32, 32, 3), 7)
    assert {type(layer).__name__ for layer in model.layers} == allowed
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.mark.slow
def test_resnet_small_learns():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).standard_normal((16, 12, 12, 1)).astype(np.float32)
    labels = np.arange(16) % 4
    model = resnet_small((12, 12, 1), 4, width=8, blocks_per_stage=1)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = model.fit(images, labels, batch_size=16, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "mobilenetv2", "MOBILENETV2"])
def test_names_of_keras_applications_in_any_case(name):
    model = build_model(name, (32, 32, 3), 7)
    assert model.name.startswith("mobilenetv2")
    assert model.output_shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.linear


def test_resnet_small_by_name():
    assert build_model("ResNet-Small", (28, 28, 1), 10).name == "resnet_small"


OWN_NAMES = [
    "resnet-small",
    "resnet20",
    "resnet50",
    "resnet50v1.5",
    "vgg16",
    "googlenet",
    "googlenet-bn",
    "alexnet",
    "alexnet-grouped",
]


def test_the_names_are_ours_and_those_of_keras_applications():
    names = model_names()
    assert names[: len(OWN_NAMES)] == OWN_NAMES
    others = names[len(OWN_NAMES) :]
    assert {"ResNet101", "VGG19", "MobileNetV2", "DenseNet121", "Xception"} < set(others)
    assert not {"ResNet50", "VGG16"} & set(others)
    assert all(hasattr(keras.applications, name) for name in others)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("GoogLeNet_BN", "googlenet-bn"),
        ("AlexNet-Grouped", "alexnet-grouped"),
        ("ResNet-50", "resnet50"),
        ("RESNET50V1.5", "resnet50v1.5"),
        ("resnet50-v2", "ResNet50V2"),
        ("resnet", None),
    ],
)
def test_case_and_hyphens_do_not_count(name, found):
    assert find_name(name) == found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "googlenet-bn"])
def test_built_by_name_a_model_returns_logits(name):
    model = build_model(name, (32, 32, 1), 7)
    assert model.output_shape == (None, 7)
    assert model.get_layer("predictions").activation is keras.activations.linear


@pytest.mark.slow
def test_auxiliary_heads_by_name():
    model = build_model("GoogLeNet", (32, 32, 3), 7, auxiliary_heads=True)
    assert set(model.output) == {"logits", "auxiliary_1", "auxiliary_2"}
    for name in ("alexnet", "no-such-model", "my_models:logits"):
        with pytest.raises(ValueError, match=f"model '{name}' has no auxiliary heads; googlenet"):
            build_model(name, (64, 64, 3), 7, auxiliary_heads=True)


def test_an_unknown_name_gets_similar_ones():
    with pytest.raises(ValueError, match=r"unknown model 'resnet5'.*similar: .*resnet50"):
        build_model("resnet5", (32, 32, 3), 10)
    with pytest.raises(ValueError, match=r"unknown model 'resnet50_model'.*alexnet-grouped"):
        build_model("resnet50_model", (32, 32, 3), 10)


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """The current folder, with modules of a user, which are unloaded afterwards."""
    (tmp_path / "users_models.py").write_text(
        "import keras\n"
        "def logits(input_shape, classes):\n"
        "    layers = [keras.Input(input_shape), keras.layers.Flatten()]\n"
        "    return keras.Sequential([*layers, keras.layers.Dense(classes)])\n"
        "def no_model(input_shape, classes):\n"
        "    return 'a string'\n"
        "def other_arguments(shape):\n"
        "    pass\n"
        "number = 3\n"
    )
    (tmp_path / "users_broken_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("users_models", None)


def test_a_function_of_the_user(users_folder):
    model = build_model("users_models:logits", (4, 5, 2), 3)
    assert (model.input_shape, model.output_shape) == ((None, 4, 5, 2), (None, 3))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:logits", "cannot import no_such_module: ModuleNotFoundError"),
        ("users_broken_module:logits", "cannot import users_broken_module: ZeroDivisionError"),
        ("users_models:absent", "module users_models has no function absent"),
        ("users_models:number", "module users_models has no function number"),
        ("users_models:no_model", "expected a function that returns a keras.Model; .* str"),
        ("users_models:other_arguments", "with input_shape and classes: .*shape"),
        ("users_models:", "expected MODULE:FUNCTION"),
        (":logits", "expected MODULE:FUNCTION"),
    ],
)
def test_unsuitable_functions(users_folder, path, message):
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        build_model(path, (4, 5, 2), 3)


@pytest.mark.slow
def test_models_that_scale_pixels_themselves():
    assert scales_its_input(build_model("EfficientNetB0", (32, 32, 3), 10))
    # These could, but are built without it.
    assert not scales_its_input(build_model("MobileNetV3Small", (32, 32, 3), 10))
    assert not scales_its_input(resnet_small((28, 28, 1), 10))

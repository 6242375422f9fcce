"""The small ResNet, and finding models by name."""

import keras
import numpy as np
import pytest

from dfpkeras.models import build_model, model_names, resnet_small, scales_its_input


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


@pytest.mark.parametrize("name", ["MobileNetV2", "mobilenetv2", "MOBILENETV2"])
def test_names_of_keras_applications_in_any_case(name):
    model = build_model(name, (32, 32, 3), 7)
    assert model.name.startswith("mobilenetv2")
    assert model.output_shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.linear


def test_resnet_small_by_name():
    assert build_model("ResNet-Small", (28, 28, 1), 10).name == "resnet_small"


def test_the_names_are_those_of_keras_applications():
    names = model_names()
    assert names[0] == "resnet-small"
    assert {"ResNet50", "VGG16", "MobileNetV2", "DenseNet121", "Xception"} < set(names)
    assert all(hasattr(keras.applications, name) for name in names[1:])


def test_an_unknown_name_gets_similar_ones():
    with pytest.raises(ValueError, match=r"unknown model 'resnet5'.*ResNet50"):
        build_model("resnet5", (32, 32, 3), 10)
    with pytest.raises(ValueError, match=r"unknown model 'resnet50_model'"):
        build_model("resnet50_model", (32, 32, 3), 10)


def test_models_that_scale_pixels_themselves():
    assert scales_its_input(build_model("EfficientNetB0", (32, 32, 3), 10))
    # These would, but are built without it.
    assert not scales_its_input(build_model("MobileNetV3Small", (32, 32, 3), 10))
    assert not scales_its_input(resnet_small((28, 28, 1), 10))

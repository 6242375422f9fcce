"""Networks that others published: a few of those that benchmarks/real_networks compares.

All of `keras.applications` and the vision backbones of keras-hub are a command, see
benchmarks/README.md.
"""

import functools
import sys
from pathlib import Path

import keras
import pytest
from keras import layers
from keras_support import dtype_policy, random_array

import dfpkeras
from dfpkeras.ops.kernel_hits import hits

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "real_networks"))

import fine_tuning
import real_networks_faces as faces
import real_networks_models as models
import real_networks_step as step

pytestmark = pytest.mark.slow


def test_every_constructor_of_keras_applications_is_taken():
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(models.applications()) == constructors


@pytest.mark.parametrize("mode", step.MODES)
def test_a_step_differs_from_float32_by_what_rounding_explains(mode):
    build = models.applications()["MobileNetV3Small"]
    comparison = step.compare(build, models.images_for(build()), mode)
    product_layers = 54
    assert comparison.faults == []
    # The images need no gradient, and a graph computes none.
    assert comparison.products == {
        "forward": product_layers,
        "backward_data": product_layers - (mode == "training"),
        "backward_weights": product_layers,
    }
    in_float32 = {row.class_name for row in comparison.report.rows if row.computes == "float32"}
    assert not in_float32 & {"Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization"}


def small_network(**bits):
    policy = dfpkeras.DFP16Policy(**bits)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, activation="silu", dtype=policy)(image)
    x = layers.Conv2D(16, 3, activation="silu", dtype=policy)(x)
    return keras.Model(image, layers.Dense(5, dtype=policy)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    ("bits", "faults"),
    [
        ({}, set()),
        ({"weight_bits": 9}, {"output", "gradient"}),
        ({"activation_bits": 9}, {"output", "gradient"}),
        ({"gradient_bits": 9}, {"gradient"}),
    ],
)
def test_lost_bits_are_noticed(bits, faults):
    comparison = step.compare(functools.partial(small_network, **bits), random_array(4, 16, 16, 3))
    found = {fault.split(":")[0].split(" ")[0] for fault in comparison.faults}
    assert found - {"loss"} == faults  # the loss is one number, which may be right by chance


def test_a_lost_gradient_is_noticed():
    with dtype_policy():
        model = small_network()
    images = random_array(4, 16, 16, 3)
    expected = step.take_step(model, images, training=False)
    lossy = step.take_step(model, images, training=False)
    lossy.gradients[2][:] = 0
    assert step.lost_gradients(model, lossy, expected) == [model.trainable_weights[2].path]


def test_a_trained_detector_finds_the_same_faces():
    photographs = faces.photographs()
    float32, dfp16 = (faces.under(policy, faces.mtcnn.MTCNN) for policy in faces.POLICIES)
    for name, count in (("half the size", 1), ("three faces", 3)):
        expected = faces.detect(float32, photographs[name])
        hits.reset()
        found = faces.detect(dfp16, photographs[name])
        assert len(expected) == count
        assert faces.are_same(expected, found)
        assert hits["conv_forward"] and hits["dense_forward"]
        for (_, ours), (_, theirs) in zip(found, expected, strict=True):
            assert abs(ours - theirs) < 0.01


def test_other_faces_are_not_the_same():
    box = (10, 20, 30, 40)
    assert faces.are_same([(box, 1.0)], [((11, 20, 30, 40), 0.9)])
    assert not faces.are_same([(box, 1.0)], [])
    assert not faces.are_same([(box, 1.0)], [((20, 20, 30, 40), 1.0)])
    assert faces.overlap(box, (40, 20, 5, 5)) == 0


def test_predictions_of_a_process_without_dfpkeras(tmp_path):
    with dtype_policy():
        model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.Flatten()])
        model.add(layers.Dense(5))
    images = random_array(100, 8, 8, 3)
    assert fine_tuning.move_out(model, images, tmp_path) == dict.fromkeys(
        ("exported", "saved", "converted"), pytest.approx(0, abs=0.02)
    )

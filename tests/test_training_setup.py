"""Optimizer, learning rate, loss and metrics of a run."""

import dataclasses

import keras
import numpy as np
import pytest

from dfpkeras.cli.config import TrainConfig
from dfpkeras.cli.configure import configure
from dfpkeras.models import build_model
from dfpkeras.training import (
    SGD,
    LinearWarmUp,
    SmoothedCrossEntropy,
    compile_model,
    labels_for_every_output,
    make_schedule,
    metric_name,
    setup,
    steps_per_epoch,
)


class FakeData:
    def __init__(self, num_classes=10, num_train=1000):
        self.image_shape, self.num_classes, self.num_train = (32, 32, 3), num_classes, num_train


# Learning rate


def rates(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def schedule_of(recipe, steps, **options):
    return make_schedule(configure({"data": "/x", "recipe": recipe, **options}), steps)


def test_resnet50_warms_up_and_falls_in_steps():
    """Goyal et al. 2017: 0.1 per 256 images, 5 epochs of warm-up, a tenth after 30, 60, 80."""
    schedule = schedule_of("resnet50", 10, batch_size=256)
    np.testing.assert_allclose(rates(schedule, 0, 1, 25, 49, 50), [0, 0.002, 0.05, 0.098, 0.1])
    boundaries = rates(schedule, 299, 300, 599, 600, 799, 800, 899)
    expected = [0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
    np.testing.assert_allclose(boundaries, expected, rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "peak"), [(256, 0.1), (32, 0.0125), (8192, 3.2)])
def test_the_learning_rate_follows_the_batch_size(batch_size, peak):
    schedule = schedule_of("resnet50", 10, batch_size=batch_size)
    np.testing.assert_allclose(rates(schedule, 100), [peak], rtol=1e-6)


def test_without_decay_epochs_the_learning_rate_stays():
    schedule = schedule_of("resnet50", 10, batch_size=256, decay_epochs=())
    np.testing.assert_allclose(rates(schedule, 25, 50, 899), [0.05, 0.1, 0.1], rtol=1e-6)


def test_decay_epochs_may_come_in_any_order():
    schedule = schedule_of("vgg16", 10, batch_size=256, decay_epochs=(40.0, 20.0))
    np.testing.assert_allclose(rates(schedule, 199, 200, 400), [1e-2, 1e-3, 1e-4], rtol=1e-6)


def test_resnet20_falls_after_32000_and_48000_steps():
    schedule = schedule_of("resnet20", 390)
    np.testing.assert_allclose(rates(schedule, 0, 31_000), [0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rates(schedule, 32_000, 47_000), [0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(rates(schedule, 48_000, 63_999), [1e-3, 1e-3], rtol=1e-6)


def test_googlenet_loses_4_percent_every_8_epochs():
    schedule = schedule_of("googlenet", 100)
    found = rates(schedule, 0, 799, 800, 1599, 1600, 24_999)
    expected = 0.01 * np.array([1, 1, 0.96, 0.96, 0.96**2, 0.96**31])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_digits_rise_for_a_tenth_and_fall_along_a_cosine():
    schedule = make_schedule(TrainConfig(), 125)
    rising = rates(schedule, 0, 30, 75)
    falling = rates(schedule, 75 + 225, 75 + 337, 750)
    np.testing.assert_allclose(rising, [0, 0.04, 0.1], rtol=1e-6)
    expected = [0.05 * (1 + np.cos(np.pi * share)) for share in (1 / 3, 337 / 675, 1)]
    np.testing.assert_allclose(falling, expected, rtol=1e-5, atol=1e-8)


def test_a_cosine_without_warm_up():
    schedule = make_schedule(TrainConfig(warmup_epochs=0.0, epochs=2), 10)
    np.testing.assert_allclose(rates(schedule, 0, 10, 20), [0.1, 0.05, 0], atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["resnet50", "googlenet", "digits"])
def test_schedules_survive_their_configuration(recipe):
    schedule = schedule_of(recipe, 10)
    optimizer = SGD(schedule, momentum=0.9, l2=0.1, exempt=("bias",))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert (again.l2, again.exempt, again.momentum) == (0.1, ("bias",), 0.9)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    steps = range(0, 1000, 7)
    assert rates(copy, *steps) == rates(schedule, *steps)


def test_a_warm_up_without_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        LinearWarmUp(keras.optimizers.schedules.CosineDecay(0.1, 10), 0)


@pytest.mark.parametrize(("limit", "steps"), [(None, 32), (10, 10), (100, 32)])
def test_steps_of_an_epoch(limit, steps):
    assert steps_per_epoch(TrainConfig(steps_per_epoch=limit), FakeData()) == steps


# Optimizer


@pytest.mark.parametrize("nesterov", [False, True])
def test_weight_decay_is_added_to_the_gradient_of_what_is_not_exempt(nesterov):
    """Three steps of each variable, against NumPy."""
    values = {name: np.array([1.0, -2.0, 0.5], "float32") for name in ("kernel", "bias", "gamma")}
    variables = [keras.Variable(value, name=name) for name, value in values.items()]
    optimizer = SGD(0.1, momentum=0.9, nesterov=nesterov, l2=0.01, exempt=("bias", "gamma"))
    velocity = dict.fromkeys(values, 0.0)
    for step in range(3):
        gradient = np.array([0.3, 0.1 * step, -0.2], "float32")
        optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 3, variables)
        for name in values:
            total = gradient + (0.01 * values[name] if name == "kernel" else 0)
            velocity[name] = 0.9 * velocity[name] - 0.1 * total
            ahead = 0.9 * velocity[name] - 0.1 * total if nesterov else velocity[name]
            values[name] = values[name] + ahead
    for variable in variables:
        np.testing.assert_allclose(variable.numpy(), values[variable.name], rtol=1e-6)


def test_a_recipe_exempts_variables_of_a_real_model():
    config = configure({"model": "resnet-small", "data": "/x", "recipe": "resnet50"})
    model = compile_model(config, FakeData())
    model.optimizer.build(model.trainable_variables)
    decays = {
        v.path
        for v, decays in zip(model.trainable_variables, model.optimizer._decays, strict=True)
        if decays
    }
    kernels_and_bias = {v.path for v in model.trainable_variables if v.name in ("kernel", "bias")}
    assert decays == kernels_and_bias
    assert len(decays) < len(model.trainable_variables)


def test_without_decay_the_optimizer_is_keras_own():
    mine, keras_own = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    gradient = keras.ops.convert_to_tensor([0.1, -0.3])
    ours = SGD(0.1, momentum=0.9, nesterov=True)
    theirs = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    for _ in range(3):
        ours.apply([gradient], [mine])
        theirs.apply([gradient], [keras_own])
    assert mine.numpy().tolist() == keras_own.numpy().tolist()


def test_wrong_weight_decay_is_refused():
    with pytest.raises(ValueError, match="l2 must be at least 0, got -1"):
        SGD(l2=-1)
    with pytest.raises(ValueError, match="exempt must be a sequence of names, got the str 'bias'"):
        SGD(exempt="bias")


# Loss and metrics


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing(smoothing):
    """Against the cross-entropy with the smoothed one-hot target, in float64."""
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.standard_normal((5, 7)), np.array([0, 6, 3, 3, 1])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(7)[labels] + smoothing / 7
    expected = -(target * log_p).sum(axis=1)
    loss = SmoothedCrossEntropy(smoothing, reduction=None)
    np.testing.assert_allclose(loss(labels, logits.astype("float32")), expected, rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.smoothing == smoothing


def test_label_smoothing_out_of_range_is_refused():
    with pytest.raises(ValueError, match="smoothing must be from 0 to 1, got 2"):
        SmoothedCrossEntropy(2)


def test_the_loss_smooths_only_if_the_recipe_does():
    default, resnet50 = (
        configure({"data": "/x", "recipe": name}) for name in ("default", "resnet50")
    )
    assert setup.make_loss(default).smoothing == 0.1
    assert isinstance(setup.make_loss(resnet50), keras.losses.SparseCategoricalCrossentropy)


def test_top_5_is_measured_with_more_than_five_classes():
    few, many = setup.make_metrics(5), setup.make_metrics(6)
    assert [metric.name for metric in few] == ["accuracy"]
    assert [metric.name for metric in many] == ["accuracy", "top_5_accuracy"]
    logits = np.array([[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]], "float32")
    for metric in many:
        metric.update_state(np.array([4, 0]), logits)
    assert [float(metric.result()) for metric in many] == [0.0, 0.5]


# Models with auxiliary heads


def model_with_heads(name, input_shape, num_classes, auxiliary_heads):
    assert auxiliary_heads
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    names = ("logits", "auxiliary_1", "auxiliary_2")
    heads = {name: keras.layers.Dense(num_classes, name=name)(x) for name in names}
    return keras.Model(inputs, heads)


@pytest.fixture
def config_with_heads(monkeypatch):
    monkeypatch.setattr(setup, "build_model", model_with_heads)
    return TrainConfig(auxiliary_weights=(0.3, 0.2), label_smoothing=0.1, learning_rate=1e-6)


def batches(model):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    images, labels = rng.random((6, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 6)
    return labels_for_every_output(model, tf.data.Dataset.from_tensors((images, labels)))


def test_auxiliary_heads_count_with_their_weights(config_with_heads):
    model = compile_model(config_with_heads, FakeData())
    found = model.evaluate(batches(model), return_dict=True, verbose=0)
    ((images, labels),) = batches(model).as_numpy_iterator()
    outputs = model.predict(images, verbose=0)
    loss = SmoothedCrossEntropy(0.1)
    parts = [float(loss(labels[name], outputs[name])) for name in outputs]
    weights = [{"logits": 1, "auxiliary_1": 0.3, "auxiliary_2": 0.2}[name] for name in outputs]
    assert found["loss"] == pytest.approx(np.dot(parts, weights), rel=1e-5)
    right = outputs["logits"].argmax(axis=1) == labels["logits"]
    assert found["logits_accuracy"] == pytest.approx(right.mean())


@pytest.mark.slow
def test_metrics_are_of_the_logits_alone_and_named_as_usual(config_with_heads):
    model = compile_model(config_with_heads, FakeData())
    logs = model.fit(batches(model), validation_data=batches(model), verbose=0).history
    names = {metric_name(name) for name in logs}
    plain = {
        "loss",
        "accuracy",
        "top_5_accuracy",
        "logits_loss",
        "auxiliary_1_loss",
        "auxiliary_2_loss",
    }
    assert names == plain | {f"val_{name}" for name in plain}


@pytest.mark.slow
def test_a_compiled_model_with_heads_survives_its_file(config_with_heads, tmp_path):
    model = compile_model(config_with_heads, FakeData())
    model.fit(batches(model), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(batches(again), verbose=0) == model.evaluate(batches(model), verbose=0)
    assert isinstance(again.optimizer, SGD)


def test_weights_for_missing_heads_are_refused(config_with_heads):
    config = dataclasses.replace(config_with_heads, auxiliary_weights=(0.3,))
    with pytest.raises(ValueError, match="auxiliary_weights: got 1 for the 2 auxiliary heads of"):
        compile_model(config, FakeData())


def test_googlenet_compiles_with_the_heads_of_its_recipe():
    config = configure({"model": "googlenet", "data": "/x", "image_size": 32})
    model = compile_model(config, FakeData())
    assert model.output.keys() == {"logits", "auxiliary_1", "auxiliary_2"}


def test_a_sequential_model_has_one_output():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert labels_for_every_output(model, batches := object()) is batches


def test_a_model_without_heads_keeps_its_labels():
    model = build_model("resnet-small", (32, 32, 3), 10)
    marker = object()
    assert labels_for_every_output(model, marker) is marker

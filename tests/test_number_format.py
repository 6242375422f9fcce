"""The number format of a policy: bits, rounding, flush interval."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras_support import dtype_policy, random_array

import dfpkeras
from dfpkeras.integration.policy import policy_of
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.kernels.tensor_format import quantize_to, round_to
from dfpkeras.ops import integer_convolution

DEFAULT = (14, 12, 15)


def bits(**arguments):
    number_format = NumberFormat(**arguments)
    return (
        number_format.activation_bits,
        number_format.weight_bits,
        number_format.gradient_bits,
    )


def test_what_is_not_given_is_the_default():
    assert bits() == DEFAULT
    assert bits(weight_bits=7, rounding="stochastic") == (14, 7, 15)
    assert bits(gradient_bits=9) == (14, 12, 9)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(2, DEFAULT), (8, (14, 12, 14)), (32, (13, 12, 13)), (128, (12, 12, 12)), (512, (11, 11, 11))],
)
def test_flush_every_lowers_bits_until_safe(interval, expected):
    assert bits(flush_every=interval) == expected
    a, w, g = (2**n - 1 for n in expected)
    assert max(a * w, g * w, a * g) * interval <= 2**31 - 1


def test_flush_every_keeps_given_bits():
    assert bits(weight_bits=14, flush_every=32) == (12, 14, 12)
    with pytest.raises(ValueError, match=r"32 products of 14 bits \(the activations\)"):
        NumberFormat(activation_bits=14, weight_bits=14, flush_every=32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_bits": 16}, ValueError, "weight_bits: expected 2 to 15 magnitude bits, got 16"),
        ({"activation_bits": 1}, ValueError, "activation_bits: expected 2 to 15"),
        ({"gradient_bits": 9.0}, TypeError, "gradient_bits: expected an integer"),
        ({"rounding": "up"}, ValueError, "rounding: expected one of nearest, stochastic"),
        ({"flush_every": 3}, ValueError, "flush_every: expected an even number of products"),
        ({"flush_every": 0}, ValueError, "flush_every: expected an even number of products"),
    ],
)
@pytest.mark.parametrize("make", [NumberFormat, dfpkeras.DFP16Policy])
def test_bad_arguments(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


# What layers compute


def network():
    """Convolutions after every kind of layer that writes integers."""
    conv, relu = keras.layers.Conv2D, keras.layers.ReLU
    inputs = keras.Input((8, 8, 3))
    x = relu()(keras.layers.BatchNormalization()(conv(8, 3)(inputs)))
    x = relu()(conv(8, 3)(x))
    x = keras.layers.AveragePooling2D(2)(keras.layers.Add()([conv(8, 1)(x), conv(8, 1)(x)]))
    x = keras.layers.GlobalAveragePooling2D()(relu()(conv(8, 1)(x)))
    return keras.Model(inputs, keras.layers.Dense(4)(x))


def compiled(model):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def trained(model):
    """The loss of a step, and the weights after it."""
    loss = model.train_on_batch(random_array(4, 8, 8, 3), np.arange(4))
    return float(loss), [w.copy() for w in model.get_weights()]


def make(**arguments):
    with dtype_policy(dfpkeras.DFP16Policy(**arguments)):
        keras.utils.set_random_seed(1)
        return compiled(network())


def seen_in_training(monkeypatch, **arguments):
    """Trains a step; returns the largest integers of x, w and dy of all products."""
    largest = {"activation": 0, "weights": 0, "gradient": 0}
    names = {
        "forward": ("activation", "weights"),
        "backward_data": ("gradient", "weights"),
        "backward_weights": ("activation", "gradient"),
    }

    def spy(name, kernel):
        def call(a, b, *args, **kwargs):
            for role, tensor in zip(names[name], (a, b), strict=True):
                largest[role] = max(largest[role], tensor.max_abs)
            intervals.append(kwargs["flush_every"])
            return kernel(a, b, *args, **kwargs)

        return call

    intervals = []
    with monkeypatch.context() as patch:
        of_images = integer_convolution._KERNELS[2]
        for name, kernel in list(of_images.items()):
            patch.setitem(of_images, name, spy(name, kernel))
        loss, _ = trained(make(**arguments))
    return {role: value.bit_length() for role, value in largest.items()}, set(intervals), loss


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_kernels_get_integers_of_these_bits(monkeypatch, rounding):
    arguments = {"activation_bits": 9, "weight_bits": 7, "gradient_bits": 11, "rounding": rounding}
    found, intervals, _ = seen_in_training(monkeypatch, **arguments)
    assert found == {"activation": 9, "weights": 7, "gradient": 11}
    assert intervals == {None}


def test_kernels_get_the_flush_interval(monkeypatch):
    assert seen_in_training(monkeypatch, flush_every=8)[1] == {8}


EIGHT_BITS = {"activation_bits": 8, "weight_bits": 8, "gradient_bits": 8}


@pytest.mark.slow
def test_stochastic_rounding_is_repeatable_and_differs():
    losses = {
        rounding: [trained(make(**EIGHT_BITS, rounding=rounding))[0] for _ in range(2)]
        for rounding in ("nearest", "stochastic")
    }
    assert all(first == second for first, second in losses.values())
    assert losses["nearest"] != losses["stochastic"]


@pytest.mark.parametrize("role", ["activation", "weights", "gradient"])
def test_rounding_of_what_a_kernel_wrote(role):
    """On average over elements, stochastic rounding is right where nearest loses everything."""
    x = np.full(40_000, 0.3, np.float32)
    x[0] = 2.0**7 - 1
    stochastic = getattr(NumberFormat(7, 7, 7, "stochastic"), role)
    written = dfpkeras.quantize(x, bits=stochastic.written_bits)
    tensor = round_to(written, stochastic)
    assert tensor.max_abs == 2**7 - 1 and tensor.exponent == 0
    assert set(tensor.data[1:].tolist()) == {0, 1}
    assert tensor.dequantize()[1:].mean() == pytest.approx(0.3, abs=0.01)
    assert quantize_to(x, stochastic).dequantize()[1:].mean() == pytest.approx(0.3, abs=0.01)
    nearest = getattr(NumberFormat(7, 7, 7), role)
    assert not quantize_to(x, nearest).data[1:].any()


@pytest.mark.slow
def test_models_of_different_formats_do_not_disturb_each_other():
    """Their interleaved steps give what each gives alone."""
    formats = [{}, EIGHT_BITS, EIGHT_BITS | {"rounding": "stochastic"}, {"flush_every": 32}]
    alone = []
    for arguments in formats:
        model = make(**arguments)
        alone.append([trained(model) for _ in range(2)])
    models = [make(**arguments) for arguments in formats]
    together = [[trained(model) for model in models] for _ in range(2)]
    for i, expected in enumerate(alone):
        for (loss, weights), (wanted_loss, wanted) in zip(
            [step[i] for step in together], expected, strict=True
        ):
            assert loss == wanted_loss
            for a, b in zip(weights, wanted, strict=True):
                np.testing.assert_array_equal(a, b)
    assert len({steps[0][0] for steps in alone}) == len(formats)


def test_layers_of_different_formats_read_their_own_integers():
    """A tensor has the integers of the format of the layer that reads it."""
    inputs = keras.Input((6, 6, 3))
    wide, narrow = dfpkeras.DFP16Policy(), dfpkeras.DFP16Policy(activation_bits=3)
    x = keras.layers.Conv2D(4, 3, dtype=wide)(inputs)
    x = keras.layers.ReLU(dtype=wide)(x)
    outputs = [keras.layers.Conv2D(4, 1, use_bias=False, dtype=p)(x) for p in (wide, narrow)]
    model = keras.Model(inputs, [x, *outputs])
    activations, exact, coarse = model.predict(random_array(2, 6, 6, 3), verbose=0)
    for result, layer in zip((exact, coarse), model.layers[-2:], strict=True):
        bits = layer.dtype_policy.number_format.activation_bits
        x = dfpkeras.quantize(activations, bits=bits).dequantize()
        np.testing.assert_allclose(result, x @ layer.kernel.numpy()[0, 0], atol=1e-3)
    assert np.max(np.abs(exact - coarse)) > 1e-2


@pytest.mark.parametrize(
    "other",
    [{"rounding": "stochastic"}, {"activation_bits": 9}],
    ids=str,
)
def test_an_eager_tensor_has_the_integers_of_each_format(other):
    """The same tensor, quantised for one layer, is read by another of the same bits or rounding."""
    layers = [
        keras.layers.Dense(
            3, use_bias=False, dtype=dfpkeras.DFP16Policy(**(EIGHT_BITS | arguments))
        )
        for arguments in ({}, other)
    ]
    numbers = random_array(4, 5)
    x = keras.ops.convert_to_tensor(numbers)
    layers[0](x)
    shared = layers[1](x).numpy()
    np.testing.assert_array_equal(shared, layers[1](keras.ops.convert_to_tensor(numbers)).numpy())
    layers[1].set_weights(layers[0].get_weights())
    assert not np.array_equal(layers[0](x), layers[1](x))


# Saving and copying

NINE_BITS = {"weight_bits": 9, "rounding": "stochastic", "flush_every": 16}


def save_and_load(model, tmp_path):
    model.save(tmp_path / "m.keras")
    return keras.models.load_model(tmp_path / "m.keras")


def to_json_and_back(model, tmp_path):
    copy = compiled(keras.models.model_from_json(model.to_json()))
    copy.set_weights(model.get_weights())
    return copy


def pickle_and_unpickle(model, tmp_path):
    return pickle.loads(pickle.dumps(model))


def clone(model, tmp_path):
    copy = compiled(keras.models.clone_model(model))
    copy.set_weights(model.get_weights())
    return copy


def deep_copy(model, tmp_path):
    return copy.deepcopy(model)


trips = pytest.mark.parametrize(
    "trip", [save_and_load, to_json_and_back, pickle_and_unpickle, clone, deep_copy]
)


@pytest.mark.slow
@trips
def test_a_copied_model_computes_what_the_original_does(trip, tmp_path):
    model = make(**NINE_BITS)
    copied = trip(model, tmp_path)
    wanted = NumberFormat(**NINE_BITS)
    assert {layer.dtype_policy.number_format for layer in copied.layers[1:]} == {wanted}
    loss, weights = trained(model)
    copied_loss, copied_weights = trained(copied)
    assert copied_loss == loss
    for a, b in zip(copied_weights, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert loss != trained(make())[0]


@pytest.mark.slow
@trips
def test_a_map_of_three_formats(trip, tmp_path):
    policies = keras.dtype_policies.DTypePolicyMap("dfp16")
    policies[".*first"] = dfpkeras.DFP16Policy(weight_bits=9)
    policies[".*second"] = dfpkeras.DFP16Policy(activation_bits=8, rounding="stochastic")
    names = ("first", "second", "third")
    layers = [keras.layers.Conv2D(4, 3, name=name, dtype=policies) for name in names]
    model = compiled(
        keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.GlobalAveragePooling2D()])
    )
    copied = trip(model, tmp_path)
    found = [policy_of(layer).number_format for layer in copied.layers[:3]]
    assert found == [
        NumberFormat(weight_bits=9),
        NumberFormat(activation_bits=8, rounding="stochastic"),
        NumberFormat(),
    ]
    assert trained(copied)[0] == trained(model)[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: keras.layers.MultiHeadAttention(2, 3),
        lambda: keras.layers.Bidirectional(keras.layers.LSTM(3)),
        lambda: keras.layers.TimeDistributed(keras.layers.Dense(3)),
        lambda: keras.layers.SeparableConv1D(3, 2),
    ],
)
def test_inner_layers_get_the_global_format(wrap):
    policy = dfpkeras.DFP16Policy(weight_bits=9)
    with dtype_policy(policy):
        layer = wrap()
        layer(*[random_array(2, 4, 5)] * (2 if "Head" in type(layer).__name__ else 1))
        found = [inner.dtype_policy for inner in layer._flatten_layers()]
        by_default = keras.DTypePolicy()
    assert {type(policy), *map(type, found)} == {dfpkeras.DFP16Policy}
    assert all(inner == policy for inner in found)
    assert by_default == policy


def test_policies_are_equal_if_their_formats_are():
    policy = dfpkeras.DFP16Policy
    assert policy(weight_bits=12) == policy() == keras.DTypePolicy("dfp16")
    assert policy(weight_bits=9) != policy()
    assert repr(policy(weight_bits=9)) == '<DFP16Policy "dfp16(weight_bits=9)">'
    assert copy.deepcopy(policy(weight_bits=9)) == policy(weight_bits=9)


@pytest.mark.parametrize(
    "arguments",
    [{}, NINE_BITS, EIGHT_BITS, {"flush_every": 512}, {"rounding": "stochastic"}],
    ids=str,
)
def test_a_name_stands_for_its_format(arguments):
    policy = dfpkeras.DFP16Policy(**arguments)
    assert keras.DTypePolicy(policy.name) == policy
    assert keras.layers.Dense(1, dtype=policy.name).dtype_policy == policy
    with dtype_policy(policy.name):
        assert keras.config.dtype_policy() == policy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dfp16(weight=9)",
            r"dtype policy 'dfp16\(weight=9\)': expected one of activation_bits, .* 'weight'",
        ),
        ("dfp16(weight_bits=99)", "weight_bits: expected 2 to 15 magnitude bits, got 99"),
        ("dfp16(weight_bits=nine)", "weight_bits: expected an integer, got str 'nine'"),
        ("dfp17", "dfp17"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises((TypeError, ValueError), match=message):
        keras.DTypePolicy(name)

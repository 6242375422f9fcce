"""dfpkeras.set_number_format: bits of each role, rounding, flush interval."""

import keras
import numpy as np
import pytest
from keras_support import dtype_policy

import dfpkeras
from dfpkeras import kernels
from dfpkeras.backend import operations
from dfpkeras.kernels import roles

DEFAULT = (14, 12, 15)


@pytest.fixture(autouse=True)
def default_format():
    yield
    dfpkeras.set_number_format()


def bits():
    number_format = dfpkeras.get_number_format()
    return (
        number_format.activation_bits,
        number_format.weight_bits,
        number_format.gradient_bits,
    )


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_default_and_back():
    assert bits() == DEFAULT
    dfpkeras.set_number_format(weight_bits=7, rounding="stochastic")
    assert bits() == (14, 7, 15) and dfpkeras.get_number_format().rounding == "stochastic"
    dfpkeras.set_number_format(gradient_bits=9)
    assert bits() == (14, 12, 9) and dfpkeras.get_number_format().rounding == "nearest"
    dfpkeras.set_number_format()
    assert bits() == DEFAULT


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(2, DEFAULT), (8, (14, 12, 14)), (32, (13, 12, 13)), (128, (12, 12, 12)), (512, (11, 11, 11))],
)
def test_flush_every_lowers_bits_until_safe(interval, expected):
    dfpkeras.set_number_format(flush_every=interval)
    assert bits() == expected
    a, w, g = (2**n - 1 for n in expected)
    assert max(a * w, g * w, a * g) * interval <= 2**31 - 1


def test_flush_every_keeps_given_bits():
    dfpkeras.set_number_format(weight_bits=14, flush_every=32)
    assert bits() == (12, 14, 12)
    before = dfpkeras.get_number_format()
    with pytest.raises(ValueError, match=r"32 products of 14 bits \(the activations\)"):
        dfpkeras.set_number_format(activation_bits=14, weight_bits=14, flush_every=32)
    assert dfpkeras.get_number_format() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight_bits": 16}, ValueError, "weight_bits: 2 to 15 magnitude bits are needed, got 16"),
        ({"activation_bits": 1}, ValueError, "activation_bits: 2 to 15"),
        ({"gradient_bits": 9.0}, TypeError, "gradient_bits: an integer is needed"),
        ({"rounding": "up"}, ValueError, "rounding: one of nearest, stochastic is needed"),
        ({"flush_every": 3}, ValueError, "flush_every: an even number of products"),
        ({"flush_every": 0}, ValueError, "flush_every: an even number of products"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        dfpkeras.set_number_format(**arguments)
    assert bits() == DEFAULT


def network():
    """Convolutions behind every kind of layer that writes integers of its own."""
    conv, relu = keras.layers.Conv2D, keras.layers.ReLU
    inputs = keras.Input((8, 8, 3))
    x = relu()(keras.layers.BatchNormalization()(conv(8, 3)(inputs)))
    x = relu()(conv(8, 3)(x))
    x = keras.layers.AveragePooling2D(2)(keras.layers.Add()([conv(8, 1)(x), conv(8, 1)(x)]))
    x = keras.layers.GlobalAveragePooling2D()(relu()(conv(8, 1)(x)))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def seen_in_training(monkeypatch):
    """Trains a step; returns the largest integers of x, w and dy of all products."""
    largest = {"activation": 0, "weights": 0, "gradient": 0}
    names = {
        "conv2d_forward": ("activation", "weights"),
        "conv2d_backward_data": ("gradient", "weights"),
        "conv2d_backward_weights": ("activation", "gradient"),
    }

    def spy(name, kernel):
        def call(a, b, *args, **kwargs):
            for role, tensor in zip(names[name], (a, b), strict=True):
                largest[role] = max(largest[role], tensor.max_abs)
            intervals.append(kwargs["flush_every"])
            return kernel(a, b, *args, **kwargs)

        return call

    intervals = []
    with dtype_policy("dfp16"), monkeypatch.context() as patch:
        for name in names:
            patch.setattr(kernels, name, spy(name, getattr(kernels, name)))
        keras.utils.set_random_seed(1)
        loss = network().train_on_batch(random(4, 8, 8, 3), np.arange(4))
    return {role: value.bit_length() for role, value in largest.items()}, set(intervals), loss


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_kernels_get_integers_of_these_bits(monkeypatch, rounding):
    dfpkeras.set_number_format(9, 7, 11, rounding)
    found, intervals, _ = seen_in_training(monkeypatch)
    assert found == {"activation": 9, "weights": 7, "gradient": 11}
    assert intervals == {None}


def test_kernels_get_the_flush_interval(monkeypatch):
    dfpkeras.set_number_format(flush_every=8)
    assert seen_in_training(monkeypatch)[1] == {8}


def test_stochastic_rounding_is_repeatable_and_differs(monkeypatch):
    losses = {}
    for rounding in ("nearest", "stochastic"):
        dfpkeras.set_number_format(8, 8, 8, rounding)
        losses[rounding] = [seen_in_training(monkeypatch)[2] for _ in range(2)]
        assert losses[rounding][0] == losses[rounding][1]
    assert losses["nearest"][0] != losses["stochastic"][0]


@pytest.mark.parametrize("role", [roles.ACTIVATION, roles.WEIGHTS, roles.GRADIENT])
def test_rounding_of_what_a_kernel_wrote(role):
    """In the mean over elements, stochastic rounding is right where nearest loses everything."""
    x = np.full(40_000, 0.3, np.float32)
    x[0] = 2.0**7 - 1
    dfpkeras.set_number_format(7, 7, 7, "stochastic")
    written = dfpkeras.quantize(x, bits=role.written_bits)
    tensor = roles.rounded(written, role)
    assert tensor.max_abs == 2**7 - 1 and tensor.exponent == 0
    assert set(tensor.data[1:].tolist()) == {0, 1}
    assert tensor.dequantize()[1:].mean() == pytest.approx(0.3, abs=0.01)
    assert roles.quantized(x, role).dequantize()[1:].mean() == pytest.approx(0.3, abs=0.01)
    dfpkeras.set_number_format(7, 7, 7)
    assert not roles.quantized(x, role).data[1:].any()


def test_rounded_keeps_the_grid_of_the_role():
    """A kernel's bound may be larger than its result: the grid must not get finer for that."""
    dfpkeras.set_number_format(8, 8, 8, "stochastic")
    tensor = dfpkeras.DFPTensor(np.array([8191, -8000, 5], np.int16), -3)  # 13 of 15 bits used
    assert roles.rounded(tensor, roles.GRADIENT).exponent == -3 + 15 - 8
    nonfinite = dfpkeras.quantize(np.array([np.nan], np.float32))
    assert roles.rounded(nonfinite, roles.GRADIENT) is nonfinite


def test_backend_is_loaded_with_the_format():
    dfpkeras.set_number_format(weight_bits=3)
    with dtype_policy("dfp16"):
        y = operations().matmul(random(2, 4), np.eye(4, dtype=np.float32) * 0.9)
    assert np.allclose(y, 0.875 * dfpkeras.quantize(random(2, 4), 14).dequantize(), atol=1e-4)


def test_an_eager_tensor_is_quantized_again_in_another_format():
    x = keras.ops.convert_to_tensor(random(4, 8))
    with dtype_policy("dfp16"):
        dense = keras.layers.Dense(3)
        dense(x)
        for changed in ({"rounding": "stochastic"}, {}, {"activation_bits": 6}, {"weight_bits": 6}):
            dfpkeras.set_number_format(**({"activation_bits": 7} | changed))
            same = keras.ops.convert_to_tensor(random(4, 8))
            np.testing.assert_array_equal(dense(x), dense(same))

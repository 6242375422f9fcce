"""`dfpkeras.report`: which layers run on integers, and why the others do not."""

import keras
import pytest
from keras_support import dtype_policy, random_array

import dfpkeras
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers

NOT_CALLED = "it depends on its input, and was not called yet"


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


def rows(model):
    report = dfpkeras.report(model)
    return {row.path: (row.class_name, row.computes, row.reason) for row in report.rows}


def test_every_layer_of_a_nested_model():
    block = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
        ],
        name="block",
    )
    inputs = keras.Input((6, 6, 4), name="image")
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(inputs)
    x = layers.Flatten(name="flatten")(block(x))
    outputs = layers.Dense(3, dtype="float32", name="head")(x)
    model = keras.Model(inputs, [outputs, layers.Dense(2, name="other")(x)], name="net")
    assert rows(model) == {
        "net/image": ("InputLayer", "float32", "InputLayer holds no weights, no integer path"),
        "net/depthwise": ("DepthwiseConv2D", "int16", "2-D depthwise convolution"),
        "net/block/conv": ("Conv2D", "int16", "2-D convolution"),
        "net/block/bn": ("BatchNormalization", "int16", "batch normalisation"),
        "net/flatten": ("Flatten", "float32", NOT_CALLED),
        "net/head": ("Dense", "float32", "its dtype policy is 'float32'"),
        "net/other": ("Dense", "int16", "matrix product"),
    } | {
        path: ("InputLayer", "float32", "InputLayer holds no weights, no integer path")
        for path in rows(model)
        if path.startswith("net/block/input_layer")
    }
    assert not hits


def test_layers_that_go_with_their_input():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3), name="image"),
            layers.MaxPooling2D(2, name="early"),
            layers.Conv2D(4, 3, name="conv"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="late"),
            layers.Activation("sigmoid", name="sigmoid"),
        ],
        name="net",
    )
    model(random_array(2, 12, 12, 3))
    found = {path: row[1:] for path, row in rows(model).items() if "image" not in path}
    assert found == {
        "net/early": ("float32", "the input of its latest call had no integers"),
        "net/conv": ("int16", "2-D convolution"),
        "net/relu": ("int16", "integers in, integers out"),
        "net/late": ("int16", "integers in, integers out"),
        "net/sigmoid": ("float32", "Activation holds no weights, no integer path"),
    }


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.EinsumDense("abc,ce->ae", output_shape=4), (2, 4, 3)),
        (lambda: layers.LSTM(2), (2, 4, 3)),
    ],
)
def test_layers_without_an_integer_path_run_in_float32(make, shape):
    layer = make()
    x = random_array(*shape)
    result = layer(x)
    assert not hits
    first = dfpkeras.report(layer).rows[0]
    assert (first.class_name, first.computes) == (type(layer).__name__, "float32")
    assert "no integer path yet" in first.reason or "inner layers" in first.reason
    with dtype_policy("float32"):
        twin = make()
        twin.build(shape)
        twin.set_weights(layer.get_weights())
        assert (twin(x).numpy() == result.numpy()).all()


def test_layers_inside_layers():
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = random_array(2, 3, 8)
    attention(x, x)
    table = rows(attention)
    assert table["attention"][1:] == ("int16", "products of attention")
    assert table["attention/query"][1:] == ("int16", "matrix product")
    wrapped = layers.TimeDistributed(layers.Dense(3, name="inner"), name="outer")
    wrapped(random_array(2, 4, 5))
    assert rows(wrapped)["outer/inner"][1] == "int16"
    assert hits["dense_forward"] > 0


def test_a_shared_layer_is_listed_once():
    dense = layers.Dense(4, name="shared")
    one = keras.Sequential([keras.Input((4,)), dense], name="one")
    two = keras.Sequential([keras.Input((4,)), dense], name="two")
    model = keras.Sequential([keras.Input((4,)), one, two], name="net")
    paths = [row.path for row in dfpkeras.report(model).rows]
    assert [path for path in paths if "shared" in path] == ["net/one/shared"]


@pytest.mark.slow
def test_lora_and_quantized_layers():
    adapted = layers.Dense(3)
    adapted.build((None, 4))
    adapted.enable_lora(2)
    quantized = layers.Dense(3)
    quantized.build((None, 4))
    quantized.quantize("int8")
    assert "LoRA" in dfpkeras.report(adapted).rows[0].reason
    assert dfpkeras.report(quantized).rows[0].reason == "its dtype policy is 'int8_from_dfp16'"


@pytest.mark.slow
def test_the_report_agrees_with_the_kernels_on_mobilenet():
    model = keras.applications.MobileNetV2(
        weights=None, alpha=0.35, input_shape=(32, 32, 3), classes=4
    )
    report = dfpkeras.report(model)
    model(random_array(1, 32, 32, 3))
    integer = [row for row in report.rows if row.computes == "int16"]
    norms = [y for y in model.layers if isinstance(y, keras.layers.BatchNormalization)]
    assert hits["conv_forward"] + hits["dense_forward"] == 36
    assert hits["depthwise_forward"] == 17
    assert len(integer) == 36 + 17 + len(norms)
    assert hits["batch_norm_forward"] >= len(norms)
    assert len(report.rows) == len(model.layers)


def test_text(capsys):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="top")], name="net")
    text = str(dfpkeras.report(model))
    assert capsys.readouterr().out == ""
    line = next(line for line in text.splitlines() if "net/top" in line)
    assert "Dense" in line and "int16" in line and "matrix product" in line
    assert "1 of 2 layers compute in int16." in text


def test_wrong_argument():
    with pytest.raises(TypeError, match=r"Argument `model` of dfpkeras\.report.*'resnet'.*str"):
        dfpkeras.report("resnet")


def test_algorithms_by_direction_and_batch_size():
    model = keras.Sequential(
        [
            keras.Input((7, 7, 512)),
            layers.Conv2D(512, 3, padding="same", name="small"),
            layers.UpSampling2D(4),
            layers.Conv2D(64, 3, name="large", dtype=dfpkeras.DFP16Policy(algorithm="auto")),
            layers.Conv2D(8, 5, dtype="dfp16(algorithm=winograd_2x2)", name="wide"),
            layers.Conv2D(8, 3, dtype="float32", name="float"),
        ]
    )
    model.layers[0].dtype_policy = dfpkeras.DFP16Policy(algorithm="auto")

    def algorithms(batch_size):
        report = dfpkeras.report(model, batch_size)
        return {row.path.split("/")[-1]: row.algorithms for row in report.rows}, str(report)

    of_one, _ = algorithms(1)
    of_many, text = algorithms(64)
    assert set(of_one["small"].values()) == {"direct"}
    assert of_many["small"]["forward"].startswith("winograd")
    assert set(of_many["large"].values()) == {"winograd_4x4"}
    assert set(of_many["wide"].values()) == {"direct"}
    assert of_many["float"] is None
    assert "winograd_4x4" in text
    assert "algorithms" not in str(dfpkeras.report(keras.Sequential(model.layers[3:])))
    with pytest.raises(ValueError, match="batch_size"):
        dfpkeras.report(model, 0)


def test_algorithms_of_images_of_unknown_size():
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, dtype="dfp16(algorithm=auto)")]
    )
    assert [row.algorithms for row in dfpkeras.report(model).rows][-1] is None


# Multiply-adds and bytes


def test_multiply_adds_of_every_kind_of_product():
    inputs = keras.Input((9, 8, 6))
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(inputs)  # 7 x 6 x 8
    x = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, name="depthwise")(x)  # 6 x 4 x 16
    x = layers.SeparableConv2D(5, 3, strides=2, padding="same", name="separable")(x)  # 3 x 2 x 5
    x = layers.Conv2DTranspose(4, 3, strides=2, name="transposed", dtype="float32")(x)  # 7 x 5 x 4
    x = layers.Add(name="add")([x, x])
    x = layers.Reshape((7, 5, 2, 2))(x)
    x = layers.Conv3D(3, (2, 2, 1), name="volume")(x)  # 6 x 4 x 2 x 3
    x = layers.Flatten()(x)
    x = layers.Reshape((6, 24))(x)
    x = layers.EinsumDense("abc,cde->abde", (6, 2, 4), name="einsum")(x)
    model = keras.Model(inputs, layers.Dense(7, name="dense")(layers.Flatten()(x)), name="net")
    report = dfpkeras.report(model, 10)
    found = {row.path.split("/")[1]: row.multiply_adds for row in report.rows}
    of_image = {
        "grouped": 7 * 6 * 8 * 9 * 3,
        "depthwise": 6 * 4 * 16 * 6,
        "separable": 3 * 2 * 16 * 9 + 3 * 2 * 16 * 5,
        "transposed": 3 * 2 * 5 * 9 * 4,
        "add": 0,
        "volume": 6 * 4 * 2 * 3 * 4 * 2,
        "einsum": 6 * 2 * 4 * 24,
        "dense": 48 * 7,
    }
    assert {name: found[name] for name in of_image} == {
        name: 3 * 10 * count for name, count in of_image.items()
    }
    in_float32 = 30 * of_image["transposed"]
    total = 30 * sum(of_image.values())
    assert report.multiply_adds == (total - in_float32, total)
    assert report.unknown == ()
    assert f"Integer in a training step of 10 images: {1 - in_float32 / total:.1%} of" in str(
        report
    )


def test_bytes_are_those_of_the_tensors():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(8, 3, name="integer"),
            layers.ReLU(name="relu"),
            layers.Conv2D(8, 2, name="float", dtype="float32"),
        ]
    )
    model(random_array(2, 4, 4, 3))
    report = dfpkeras.report(model, 2)
    moved = {row.path.split("/")[1]: row.moved for row in report.rows}
    x, y, w = 2 * 4 * 4 * 3, 2 * 2 * 2 * 8, 3 * 3 * 3 * 8 + 8
    assert moved["integer"] == (2 * (3 * x + 2 * y + 2 * w), 4 * 2 * w)
    assert moved["relu"] == (2 * 4 * y, 0)
    z, w = 2 * 8, 2 * 2 * 8 * 8 + 8
    assert moved["float"] == (0, 4 * (3 * y + 2 * z + 3 * w))
    assert report.bytes == (
        moved["integer"].int16 + moved["relu"].int16,
        sum(sum(each) for each in moved.values()),
    )


@pytest.mark.parametrize(
    ("make", "shape", "unknown"),
    [
        (lambda: layers.Conv2D(4, 3), (None, None, 3), {"layer"}),
        (lambda: layers.LSTM(4), (5, 3), {"layer", "layer/lstm_cell"}),
        (lambda: layers.TimeDistributed(layers.Dense(4, name="inner")), (5, 3), {"inner"}),
        (lambda: layers.UpSampling2D(2), (5, 5, 3), set()),
    ],
)
def test_what_is_unknown_is_said(make, shape, unknown):
    model = keras.Sequential([keras.Input(shape), layer := make()], name="net")
    report = dfpkeras.report(model)
    found = {path for path in report.unknown if path != f"net/{layer.name}"}
    if unknown:
        assert f"net/{layer.name}" in report.unknown
        text = " ".join(str(report).split())
        assert f"since it is unknown: net/{layer.name}" in text
    else:
        assert report.unknown == ()
    assert {path.split("/")[-1] for path in found} == {
        name.split("/")[-1] for name in unknown - {"layer"}
    }
    assert report.multiply_adds.total == 0


def test_a_subclassed_model_is_counted_once_it_was_called():
    class Model(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.top = layers.Dense(4, name="top")

        def call(self, x):
            return self.top(x)

    model = Model()
    assert dfpkeras.report(model).multiply_adds.total == 0
    model(random_array(2, 3))
    assert dfpkeras.report(model, 5).multiply_adds == (3 * 5 * 12, 3 * 5 * 12)

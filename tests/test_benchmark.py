"""`dfpkeras bench`: the networks' tables, the arithmetic of the comparison, and the command."""

import collections
import importlib.util
import itertools
import json
import math

import keras
import numpy as np
import pytest
from keras_support import QUANTIZATION_TOLERANCE, relative_error

import dfpkeras
from dfpkeras import _native, kernels
from dfpkeras.benchmark import (
    measure,
    networks,
    peers,
    quantization,
    random_operands,
    suite,
    totals,
)
from dfpkeras.benchmark.integer_kernels import IntegerKernels
from dfpkeras.benchmark.layer_shapes import Convolution, Dense
from dfpkeras.benchmark.measure import Measurement
from dfpkeras.benchmark.peak import Peak, measure_peak
from dfpkeras.benchmark.quietness import Sample
from dfpkeras.cli.main import main
from dfpkeras.kernels.convolution_plan import DIRECTIONS

TINY = {
    Convolution(6, 5, 4, 3, kernel_size=3): 2,
    Convolution(8, 8, 4, 6, kernel_size=2, strides=2, padding="valid", groups=2): 1,
    Dense(7, 5): 3,
}
CONV, STRIDED, DENSE = TINY
SPEEDS = {"bytes": 2**20, "copy": 10.0, "quantize": 9.0, "quantize_new": 8.0}


# ---- the tables ------------------------------------------------------------------------------


def layers_of(model):
    """The expected table of a Keras model."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width, channels = layer.input.shape[1:]
            kernel_size, kernel_width = layer.kernel_size
            strides, strides_width = layer.strides
            assert (kernel_size, strides) == (kernel_width, strides_width)
            padding = "valid" if kernel_size == 1 else layer.padding
            size = height, width, channels, layer.filters
            found.append(Convolution(*size, kernel_size, strides, padding, layer.groups))
        elif isinstance(layer, keras.layers.Dense):
            found.append(Dense(layer.input.shape[1], layer.units))
    return collections.Counter(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "application"),
    [("resnet50", keras.applications.ResNet50), ("vgg16", keras.applications.VGG16)],
)
def test_table_is_that_of_keras_applications(name, application):
    assert layers_of(application(weights=None)) == networks.NETWORKS[name]


def test_googlenet_modules_fit_together():
    modules = list(networks.INCEPTIONS.values())
    for (_, _, one, _, three, _, five, projection), following in itertools.pairwise(modules):
        assert one + three + five + projection == following[1]
    _, _, one, _, three, _, five, projection = modules[-1]
    assert Dense(one + three + five + projection, 1000) in networks.GOOGLENET


@pytest.mark.parametrize(
    ("module", "published"),
    list(zip(networks.INCEPTIONS, (128, 304, 73, 88, 100, 119, 170, 54, 71), strict=True)),
)
def test_googlenet_modules_have_the_published_multiply_adds(module, published):
    # In millions, column "ops" of the paper's table 1; 5a's is known to be 6 % too high.
    macs = sum(layer.macs(1) for layer in networks.inception(*networks.INCEPTIONS[module]))
    assert macs / 1e6 == pytest.approx(published, rel=0.06)


def test_googlenet_has_every_convolution():
    # Three in the stem, six in each of nine modules, one in each of two auxiliary classifiers.
    count = sum(n for layer, n in networks.GOOGLENET.items() if layer.kind == "convolution")
    assert count == 3 + 9 * 6 + 2


def test_alexnet_is_that_of_section_3_5():
    convolutions = [layer for layer in networks.ALEXNET if layer.kind == "convolution"]
    # "96 kernels of size 11x11x3", ...
    assert [layer.w_shape for layer in convolutions] == [
        (11, 11, 3, 96),
        (5, 5, 48, 256),
        (3, 3, 256, 384),
        (3, 3, 192, 384),
        (3, 3, 192, 256),
    ]
    # "The number of neurons in the network's remaining layers", whose first is an erratum.
    assert [math.prod(layer.y_shape(1)) for layer in networks.ALEXNET][1:] == [
        186624,
        64896,
        64896,
        43264,
        4096,
        4096,
        1000,
    ]
    assert sum(math.prod(layer.w_shape) for layer in networks.ALEXNET) == 60_954_656


def test_resnet50_has_the_published_multiply_adds():
    macs = sum(count * layer.macs(1) for layer, count in networks.RESNET50.items())
    assert macs == pytest.approx(3.8e9, rel=0.02)  # He et al., table 1.


def test_labels_are_unique_and_networks_share_layers():
    layers = {layer for network in networks.NETWORKS.values() for layer in network}
    assert len({layer.label for layer in layers}) == len(layers)
    assert Dense(4096, 1000) in networks.VGG16.keys() & networks.ALEXNET.keys()


# ---- one layer -------------------------------------------------------------------------------


def test_multiply_adds_are_those_of_a_convolution_of_ones():
    shape, w_shape = STRIDED.x_shape(2), STRIDED.w_shape
    x, w = (dfpkeras.quantize(np.ones(s, np.float32)) for s in (shape, w_shape))
    y = kernels.conv2d_forward(x, w, strides=2, groups=2)
    assert y.shape == STRIDED.y_shape(2)
    assert y.sum() == STRIDED.macs(2)
    assert DENSE.macs(2) == 2 * 7 * 5
    # Taps on padding count: 30 outputs of 3 filters, each of 9 taps on 4 channels.
    assert CONV.macs(2) == 2 * 30 * 3 * 9 * 4


@pytest.mark.parametrize("layer", TINY)
def test_operands_fit_the_layer(layer):
    made = random_operands.make_operands(layer, 2)
    assert made["x"].shape == layer.x_shape(2)
    assert made["w"].shape == layer.w_shape
    assert made["dy"].shape == layer.y_shape(2)
    assert {value.dtype for value in made.values()} == {np.dtype(np.float32)}
    again = random_operands.make_operands(layer, 2)
    assert all(np.array_equal(made[name], again[name]) for name in made)


def test_operands_are_distributed_as_in_training():
    made = random_operands.make_operands(Convolution(56, 56, 64, 64, 3), 4)
    largest_to_mean = {name: abs(v).max() / abs(v).mean() for name, v in made.items()}
    assert made["x"].min() == 0
    assert np.mean(made["x"] == 0) == pytest.approx(0.5, abs=0.01)
    assert largest_to_mean["w"] < 10
    assert 15 < largest_to_mean["dy"] < 80


def installed_peers():
    """Every peer that is installed, by name, with the threads it already runs with."""
    found = {}
    if importlib.util.find_spec("tensorflow") is not None:
        import tensorflow as tf

        threads = tf.config.threading.get_intra_op_parallelism_threads()
        found["TensorFlow"] = peers.TensorFlow(threads)
    if importlib.util.find_spec("torch") is not None:
        found["PyTorch"] = peers.PyTorch(2)
    return found


def as_ours(name, layer, direction, result):
    """A contender's result as an array with the axes of ours."""
    result = np.asarray(result)
    if name != "PyTorch":
        return result
    weights = direction == "backward_weights"
    if layer.kind == "dense":
        return result.T if weights else result
    return result.transpose((2, 3, 1, 0) if weights else (0, 2, 3, 1))


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(9, 7, 8, 16, 3),
        Convolution(9, 9, 8, 16, 3, 2),
        Convolution(11, 11, 3, 16, 5, 2, "valid"),
        Convolution(8, 8, 16, 16, 1, 2, "valid"),
        Convolution(7, 7, 16, 32, 3, groups=2),
        Dense(20, 12),
    ],
    ids=lambda layer: layer.label,
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_contenders_compute_the_same(layer, direction):
    values = random_operands.make_operands(layer, 2)
    ours = IntegerKernels().prepare(layer, direction, values)()
    contenders = installed_peers()
    assert "TensorFlow" in contenders
    for name, peer in contenders.items():
        try:
            result = peer.prepare(layer, direction, values)()
        except peers.UnsupportedError:
            # TensorFlow has gradients of grouped convolutions on CPUs with AVX-512 only.
            assert name == "TensorFlow" and direction != "forward" and layer.groups > 1
            continue
        theirs = as_ours(name, layer, direction, result)
        assert relative_error(ours, theirs) < QUANTIZATION_TOLERANCE


def test_pytorch_pads_an_odd_zero_on_the_other_side():
    # GoogLeNet's stem: TensorFlow's "same" is two zeros above, three below. Sizes must agree.
    assert peers.PyTorch._padding(Convolution(224, 224, 3, 64, 7, 2)) == (3, 3)
    assert peers.PyTorch._padding(Convolution(8, 6, 3, 4, 3)) == (1, 1)
    assert peers.PyTorch._padding(Convolution(8, 6, 3, 4, 3, 1, "valid")) == (0, 0)


def test_tensorflow_that_runs_with_other_threads_is_no_peer():
    keras.ops.zeros(1)
    with pytest.raises(peers.UnsupportedError, match="runs already in this process"):
        peers.TensorFlow(num_threads=77)


# ---- arithmetic ------------------------------------------------------------------------------


def measurement(layer, direction="forward", **seconds):
    return Measurement(layer, direction, 6_000_000, seconds)


def test_ratio_is_that_of_medians_against_the_better_peer():
    m = measurement(CONV, dfpkeras=[2, 1, 9], Slow=[6, 7, 8], Fast=[5, 3, 1])
    assert m.better_peer == "Fast"
    assert m.ratio == 3 / 2
    assert m.gmacs_per_second("dfpkeras") == 0.003
    assert m.gmacs_per_second("Absent") is None


def test_without_peers_there_is_no_ratio():
    m = measurement(CONV, dfpkeras=[1, 2])
    assert (m.better_peer, m.ratio, m.median("dfpkeras")) == (None, None, 1.5)


def test_totals_weigh_layers_by_their_occurrences():
    measurements = [
        measurement(CONV, dfpkeras=[1], A=[4], B=[5]),
        measurement(STRIDED, dfpkeras=[2], A=[4], B=[2]),
        measurement(DENSE, dfpkeras=[1], A=[3], B=[3]),
        measurement(CONV, "backward_data", dfpkeras=[1], A=[2]),
        measurement(STRIDED, "backward_data", dfpkeras=[1], A=[8]),
        measurement(Dense(3, 3), dfpkeras=[100], A=[100]),
    ]
    forward, backward, everything, dense = totals.sum_network("tiny", TINY, measurements)
    assert (forward.seconds, forward.peer_seconds, forward.ratio) == (4, 10, 2.5)
    assert forward.geometric_mean == pytest.approx(2)
    assert (backward.direction, backward.seconds, backward.peer_seconds) == ("backward_data", 3, 12)
    assert (everything.direction, everything.seconds, everything.peer_seconds) == ("all", 7, 22)
    assert everything.geometric_mean == pytest.approx((4 * 1 * 2 * 8) ** 0.25)
    assert (dense.kind, dense.seconds, dense.peer_seconds) == ("dense", 3, 9)


def test_total_with_a_layer_that_no_peer_computes_has_no_ratio():
    measurements = [measurement(CONV, dfpkeras=[1], A=[4]), measurement(STRIDED, dfpkeras=[2])]
    (total,) = totals.sum_network("tiny", TINY, measurements)
    assert (total.seconds, total.peer_seconds, total.ratio, total.geometric_mean) == (
        4,
        None,
        None,
        None,
    )


def test_contenders_take_turns():
    calls = []
    times = measure.take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 0)
    changes = [calls[0]] + [new for old, new in itertools.pairwise(calls) if new != old]
    # The warm-up, then three rounds, in an order that rotates.
    assert "".join(changes) == "ab" + "ab" + "a" + "b"
    assert len(times["a"]) == len(times["b"]) >= 3
    assert min(times["a"] + times["b"]) > 0


def test_contender_that_cannot_is_left_out_with_its_reason():
    class Unable:
        name = "Unable"

        def prepare(self, layer, direction, operands):
            raise peers.UnsupportedError("not that")

    m = measure.measure_layer([NumPy(2), Unable()], DENSE, "forward", 2, 0)
    assert m.left_out == {"Unable": "not that"}
    assert list(m.seconds) == ["NumPy"]


def test_quantization_is_compared_with_a_copy():
    speeds = quantization.measure_quantization(0, elements=1000)
    assert speeds.pop("bytes") == 4000
    assert list(speeds) == ["copy", "quantize", "quantize_new"]
    assert min(speeds.values()) > 0


# ---- the command -----------------------------------------------------------------------------


class NumPy:
    """A peer that multiplies the first matrices it can make of its operands."""

    name = "NumPy"
    version = np.__version__

    def __init__(self, num_threads):
        pass

    def prepare(self, layer, direction, operands):
        if layer is STRIDED:
            raise peers.UnsupportedError("no groups")
        x = operands["x"].reshape(len(operands["x"]), -1)
        return lambda: x @ x.T


@pytest.fixture
def tiny(monkeypatch):
    """A network "tiny", and one peer that is installed and one that is not."""
    monkeypatch.setitem(networks.NETWORKS, "tiny", TINY)
    monkeypatch.setattr(peers, "PEERS", (NumPy, Absent))
    monkeypatch.setattr(suite, "measure_peak", lambda: Peak(bare=125.0, micro_kernel=100.0))
    monkeypatch.setattr(suite, "sample_quietness", lambda: Sample(1.0, 1.0))
    monkeypatch.setattr(suite, "measure_quantization", lambda seconds: SPEEDS)


class Absent:
    name = "Absent"

    def __init__(self, num_threads):
        raise peers.UnsupportedError("not installed")


def bench(*arguments):
    tiny_run = ["--network", "tiny", "--batch-size", "2", "--seconds", "0.001"]
    return main(["bench", *tiny_run, *map(str, arguments)])


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_peak_counts_what_every_thread_computes(isa):
    before, threads = kernels.get_isa(), dfpkeras.get_num_threads()
    kernels.set_isa(isa)
    try:
        for with_memory in (False, True):
            dfpkeras.set_num_threads(1)
            one = _native.run_multiply_adds(1, with_memory)
            dfpkeras.set_num_threads(2)
            assert _native.run_multiply_adds(3, with_memory) == 6 * one
            # Whole tiles: pairs of products for 6 rows and panels of 16 columns.
            assert one > 0
            assert one % (2 * 6 * 16) == 0
        peak = measure_peak(0.01)
        assert peak.bare > 0
        assert peak.micro_kernel > 0
    finally:
        kernels.set_isa(before)
        dfpkeras.set_num_threads(threads)


def test_tables(tiny, capsys):
    assert bench() == 0
    output = capsys.readouterr().out
    for direction in DIRECTIONS:
        assert f"tiny, {direction}" in output
    for layer in TINY:
        rows = [line for line in output.splitlines() if line.strip().startswith(layer.label)]
        assert len(rows) == len(DIRECTIONS)
    assert "Absent was left out: not installed" in " ".join(output.split())
    assert f"NumPy left out {STRIDED.label} forward" in " ".join(output.split())
    assert "dfpkeras.quantize" in output


def test_json(tiny, tmp_path):
    path = tmp_path / "results.json"
    assert bench("--direction", "backward_data", "--json", path) == 0
    results = json.loads(path.read_text())
    assert results["missing"] == {"Absent": "not installed"}
    assert results["machine"]["isa"] == kernels.get_isa()
    assert [m["label"] for m in results["measurements"]] == [layer.label for layer in TINY]
    conv, strided, dense = results["measurements"]
    assert conv["direction"] == "backward_data"
    assert conv["macs"] == CONV.macs(2)
    assert conv["occurrences"] == {"tiny": 2}
    assert conv["better_peer"] == "NumPy"
    ours, peer = conv["contenders"]["dfpkeras"], conv["contenders"]["NumPy"]
    assert conv["ratio"] == peer["median"] / ours["median"]
    assert conv["percent_of_peak"] == pytest.approx(ours["gmacs_per_second"])
    assert strided["left_out"] == {"NumPy": "no groups"}
    assert (strided["ratio"], dense["kind"]) == (None, "dense")
    assert [(t["kind"], t["ratio"] is None) for t in results["totals"]] == [
        ("convolution", True),
        ("dense", False),
    ]


@pytest.mark.slow
def test_plot(tiny, tmp_path):
    path = tmp_path / "results.png"
    assert bench("--plot", path) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_missing_peers_are_named(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    reasons = {"TensorFlow": "not installed", "PyTorch": "not installed"}
    assert peers.find_peers(1) == ([], reasons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "absent/results.json"), "--json: absent/results.json: there is no such dir"),
        (("--plot", "absent/results.png"), "--plot: absent/results.png: there is no such dir"),
        (("--plot", "results.jpg"), "the name of a PNG file must end in .png"),
        (("--json", "."), "--json: .: cannot be written"),
        (("--network", "lenet"), "--network: lenet: expected one of resnet50, vgg16"),
    ],
)
def test_wrong_files_and_names_are_refused_before_measuring(
    tiny, monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "measure_layer", None)
    assert bench(*arguments) == 2
    assert message in capsys.readouterr().err


def test_plot_without_matplotlib_names_the_extra(tiny, monkeypatch, capsys):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert bench("--plot", "results.png") == 2
    assert 'pip install "dfpkeras[bench]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--direction", "sideways"),
        ("--batch-size", "0"),
        ("--seconds", "-1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["bench", *arguments])
    assert arguments[0] in capsys.readouterr().err

"""`dfpkeras bench --step`: cases, processes, turns, profiles, and the command."""

import collections
import importlib.util
import itertools
import json
import re
import typing

import keras
import numpy as np
import pytest
import step_models
from hypothesis import given
from hypothesis import strategies as st
from keras_support import dtype_policy, small_cnn

from dfpkeras.benchmark.quietness import Sample
from dfpkeras.benchmark.step import contenders, suite
from dfpkeras.benchmark.step.case import NETWORKS, Case, ModelError
from dfpkeras.benchmark.step.contenders import CONTENDERS
from dfpkeras.benchmark.step.keras_step import KerasStep
from dfpkeras.benchmark.step.layer_kinds import (
    BETWEEN,
    all_kinds,
    kind_of_kernel,
    kind_of_operation,
    kinds_of_layers,
)
from dfpkeras.benchmark.step.process import ContenderError, ContenderProcess
from dfpkeras.benchmark.step.results import Comparison, Measured
from dfpkeras.benchmark.step.trace import profile, shared_time
from dfpkeras.benchmark.step.worker import Worker
from dfpkeras.cli.main import main
from dfpkeras.models import model_names
from dfpkeras.ops.kernel_hits import KernelHits, hits

HAS_TORCH = importlib.util.find_spec("torch") is not None


def user_case(function, batch_size=2, **options):
    return Case(None, f"step_models:{function}", batch_size, **options)


# ---- cases -----------------------------------------------------------------------------------


def test_networks_are_models_that_can_be_built():
    assert set(NETWORKS) < {name.lower() for name in model_names()}


def test_network_takes_its_own_images_unless_asked_for_others():
    model = Case("mobilenetv2", None, 3).build()
    assert Case("mobilenetv2", None, 3).input_shapes(model) == [(3, 224, 224, 3)]
    model = Case("resnet-small", None, 3, image_size=20).build()
    assert model.input_shape == (None, 20, 20, 3)
    assert model.output_shape == (None, 1000)


def test_image_size_is_for_what_a_users_model_leaves_open():
    model = step_models.open_sizes()
    assert user_case("open_sizes", image_size=12).input_shapes(model) == [(2, 12, 12, 3)]
    with pytest.raises(ModelError, match=r"--image-size for the sizes.* \(None, None, None, 3\)"):
        user_case("open_sizes").input_shapes(model)
    assert user_case("small", image_size=12).input_shapes(small_cnn()) == [(2, 8, 8, 3)]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case(None, "absent_module:f", 2), "--model absent_module:f: .*No module named"),
        (user_case("absent"), "--model step_models:absent: .* has no function absent"),
        (user_case("no_model"), "expected a function that returns a keras.Model.* returned str"),
        (user_case("subclassed"), "expected a model whose inputs are known"),
        (Case("vgg16", None, 2, image_size=8), "--network vgg16: .*at least 32"),
    ],
)
def test_model_that_cannot_be_had(case, message):
    with pytest.raises(ModelError, match=message):
        case.build()


@pytest.mark.parametrize("inference", [False, True])
def test_step_trains_or_predicts(inference):
    model = small_cnn()
    before = model.get_weights()
    step = KerasStep(user_case("small", inference=inference), model)
    result = step.run()
    unchanged = [np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True)]
    assert unchanged == [inference] * len(before)
    assert np.shape(result) == ((16, 5) if inference else ())


# ---- kinds -----------------------------------------------------------------------------------


def test_every_kernel_has_a_kind():
    text = " ".join(KernelHits.__doc__.split())
    names = re.findall(r"``([a-z]\w+)``", text)
    assert {"quantize_gradient", "dequantize", "batch_norm_backward"} < set(names)
    products = {"conv", "depthwise", "dense"}
    names = [name for name in names if name not in products]
    names += [f"{product}_backward_data" for product in products]
    kinds = {name: kind_of_kernel(name) for name in names}
    assert {name for name in kinds if kinds[name] == "other"} == {"zero_pad", "crop"}
    assert kinds["quantize_weights"] == kinds["dequantize"] == "conversion"
    assert kinds["conv_backward_data"] == "convolution"
    assert kinds["dense_backward_data"] == "dense"
    assert kind_of_kernel("unheard_of") == "other"


LAYER_KINDS = {"conv1": "convolution", "bn": "batch norm", "re_lu_1": "activation"} | {
    "sgd": "optimizer",
    "flatten": "other",
}


@pytest.mark.parametrize(
    ("name", "operation", "kind"),
    [
        ("model_1/conv1_1/convolution", "_MklNativeConv2D", "convolution"),
        ("gradient_tape/model_1/conv1_1/c/Conv2DBackpropFilter", "X", "convolution"),
        ("model_1/conv1_1/Relu", "Relu", "activation"),
        ("model_1/bn_1/moments/mean", "Mean", "batch norm"),
        ("gradient_tape/model_1/bn_1/batchnorm/mul_1/Mul", "Mul", "batch norm"),
        ("model_1/re_lu_1/Maximum", "Maximum", "activation"),
        ("model_1/nested_1/bn_12/Rsqrt", "Rsqrt", "batch norm"),
        ("AddN_3", "AddN", "add, concatenate"),
        ("sgd/MatMul", "MatMul", "optimizer"),
        ("model_1/flatten_1/Reshape", "Reshape", "other"),
        ("conv1", "Reshape", "other"),
        ("loss/Mean", "Mean", "other"),
    ],
)
def test_kind_of_operation(name, operation, kind):
    assert kind_of_operation(name, operation, LAYER_KINDS) == kind


def test_kinds_of_layers_within_models():
    model = step_models.all_layers()
    model.compile("sgd", ["mse", "mse"])
    count = collections.Counter(kinds_of_layers(model).values())
    assert count["convolution"] == 4
    assert count["batch norm"] == 3
    assert count["activation"] == 3
    assert count["pooling"] == 3
    assert count["add, concatenate"] == 3
    assert count["dense"] == 2
    assert count["optimizer"] == 1
    outer = step_models.nested()
    outer.compile("sgd", "mse")
    assert kinds_of_layers(outer)["second"] == "convolution"


# ---- time ------------------------------------------------------------------------------------


def test_time_is_shared_among_what_runs_at_once():
    assert shared_time([]) == {}
    assert shared_time([(1, 3, "a"), (5, 6, "a"), (2, 4, "b")]) == {"a": 2.5, "b": 1.5}
    assert shared_time([(0, 6, "a"), (0, 6, "a"), (0, 3, "b")]) == {"a": 5, "b": 1}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.sampled_from("abc"))))
def test_shared_time_is_that_of_every_moment(found):
    intervals = [(start, start + length, kind) for start, length, kind in found]
    expected = collections.Counter()
    for moment in range(40):
        running = [kind for start, end, kind in intervals if start <= moment < end]
        for kind in running:
            expected[kind] += 1 / len(running)
    times = shared_time(intervals)
    assert times == pytest.approx({kind: expected[kind] for kind in times})
    assert sum(times.values()) == pytest.approx(sum(expected.values()))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["dfp16", "float32"])
def test_profile_of_a_step(policy):
    with dtype_policy(policy):
        model = keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                keras.layers.Conv2D(8, 3),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                keras.layers.Dense(5),
            ]
        )
        step = KerasStep(user_case("small", batch_size=4), model)
        step.run()
        found = profile(step.run, model, steps=2)
    assert hits.observer is None
    assert tuple(found) == (*all_kinds(), BETWEEN)
    for kind in ("convolution", "batch norm", "pooling", "dense", "optimizer"):
        assert found[kind] > 0
    if policy == "float32":  # The kernels of batch norm compute the ReLU after it.
        assert found["activation"] > 0
    assert (found["conversion"] > 0) == (policy == "dfp16")
    assert found[BETWEEN] >= 0


def test_observer_sees_every_kernel_where_it_runs():
    counts, seen = KernelHits(), []
    counts.add("first")
    counts.observer = seen.append
    counts.add("second")
    assert seen == ["second"]
    assert counts == {"first": 1, "second": 1}


# ---- processes -------------------------------------------------------------------------------


@pytest.fixture
def process():
    """Makes contenders' processes, and ends them."""
    made = []

    def start(function, time_limit=100):
        made.append(ContenderProcess(CONTENDERS["tensorflow"], user_case(function), time_limit))
        return made[-1]

    yield start
    for each in made:
        each.end()


def test_contender_that_hangs_is_given_up(process):
    hanging = process("slow_to_build", time_limit=0.5)
    with pytest.raises(ContenderError, match=r"^over 0\.5 s$"):
        hanging.ask("build")
    hanging.end()
    assert hanging._process.returncode == -9


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told(process):
    dying, wrong = map(process, ("dies", "no_model"))
    with pytest.raises(ContenderError, match=r"its process ended: exit code 7: a last word$"):
        dying.ask("build")
    with pytest.raises(ModelError, match=r"it returned str"):
        wrong.ask("build")
    with pytest.raises(ContenderError, match=r"AttributeError: .*turn_around"):
        wrong.ask("turn_around")


def test_model_without_integer_layers_is_not_ours():
    with dtype_policy():
        worker = Worker(CONTENDERS["dfp16"], user_case("without_kernels"))
        worker.answer("build")
        with pytest.raises(RuntimeError, match="none of the model's layers runs on the integer"):
            worker.answer("hits")


def test_short_steps_are_repeated_within_a_turn():
    with dtype_policy():
        worker = Worker(CONTENDERS["dfp16"], user_case("small"))
        assert worker.answer("build") == ("Keras", "")
        assert len(worker.answer("turn", 0)) == 1
        many = worker.answer("turn", 0.3)
        assert len(many) > 1
        assert sum(many) >= 0.25
        assert set(worker.answer("hits")) > {"conv_forward", "conv_backward_weights"}


# ---- turns -----------------------------------------------------------------------------------


class FakeProcess:
    """Answers without a process; steps take as many seconds as `pace` says."""

    log = ()
    pace: typing.ClassVar = {
        "dfp16": 1.0,
        "tensorflow": 3.0,
        "pytorch": 2.0,
        "mixed_bfloat16": 50.0,
    }
    limit = 20

    def __init__(self, contender, case, time_limit):
        self.contender = contender
        self.ended = 0

    def ask(self, method, *arguments):
        FakeProcess.log.append((self.contender.name, method))
        assert not self.ended
        seconds = self.pace.get(self.contender.name, 2.0)
        if method in ("turn", "profile") and seconds > self.limit:
            raise ContenderError("over 20 s")
        return {
            "build": ("Keras", ""),
            "turn": [seconds],
            "hits": {"quantize_weights": 3, "dequantize": 1, "conv_forward": 3},
            "resources": {"peak_memory": int(100 * seconds), "idle_cpu_seconds": 0.0},
            "profile": None,
        }[method]

    def end(self):
        self.ended += 1


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeProcess, "log", [])
    monkeypatch.setattr(suite, "ContenderProcess", FakeProcess)
    monkeypatch.setattr(contenders.Contender, "is_installed", True)
    monkeypatch.setattr(suite, "sample_quietness", lambda: Sample(1.0, 1.0))
    return FakeProcess


def run_fake(steps, *names):
    chosen = [CONTENDERS[name] for name in names or FakeProcess.pace]
    results = suite.run_step_suite(
        [Case("resnet50", None, 8)], chosen, steps, 20, lambda text: None
    )
    return results.comparisons[0]


def test_contenders_take_turns_in_an_order_that_rotates(fake):
    run_fake(3, "dfp16", "tensorflow", "pytorch")
    turns = "".join(name[0] for name, method in fake.log if method == "turn")
    assert turns == "dtp" * 2 + "dtp" + "tpd" + "pdt"
    assert [name for name, method in fake.log if method == "hits"] == ["dfp16"]


def test_memory_is_read_before_the_profile(fake):
    run_fake(1, "dfp16")
    methods = [method for _, method in fake.log]
    assert methods.index("resources") < methods.index("profile")


def test_contender_over_the_time_limit_is_left_out_and_others_go_on(fake):
    comparison = run_fake(2)
    assert comparison.left_out == {"mixed_bfloat16": "warm-up 1: over 20 s"}
    assert list(comparison.measured) == ["dfp16", "tensorflow", "pytorch"]
    assert comparison.ratio("pytorch") == 2
    assert comparison.memory_ratio("tensorflow") == pytest.approx(1 / 3)


def test_profile_over_the_time_limit_leaves_what_was_measured(fake, monkeypatch):
    ask = fake.ask

    def no_profile(self, method, *arguments):
        if method == "profile":
            raise ContenderError("over 20 s")
        return ask(self, method, *arguments)

    monkeypatch.setattr(fake, "ask", no_profile)
    comparison = run_fake(2, "dfp16")
    assert comparison.measured["dfp16"].seconds == [1.0, 1.0]
    assert comparison.measured["dfp16"].remark == "no profile, over 20 s"


def test_what_is_not_installed_is_named(fake, monkeypatch):
    monkeypatch.setattr(
        contenders.Contender, "is_installed", property(lambda self: self.backend != "torch")
    )
    assert run_fake(1).left_out["pytorch"] == "torch is not installed"


def test_all_processes_end_whatever_happens(fake, monkeypatch):
    ended = []
    monkeypatch.setattr(fake, "end", lambda self: ended.append(self.contender.name))

    def refuse(self, method, *arguments):
        raise ModelError("no such model")

    monkeypatch.setattr(fake, "ask", refuse)
    with pytest.raises(ModelError):
        run_fake(1)
    assert ended == list(FakeProcess.pace)


# ---- results ---------------------------------------------------------------------------------


def test_numbers_of_a_contender():
    measured = Measured(seconds=[4.0, 2.0, 9.0], kernel_hits={"dequantize": 5, "conv_forward": 2})
    numbers = measured.as_dict(images=8)
    assert numbers["images_per_second"] == 2
    assert (numbers["median"], numbers["fastest"], numbers["steps"]) == (4, 2, 3)
    assert numbers["quartiles"] == [3, 6.5]
    assert numbers["conversions_per_step"] == {
        "quantize_activation": 0,
        "quantize_weights": 0,
        "quantize_gradient": 0,
        "dequantize": 5,
    }
    assert Measured(seconds=[1.0]).as_dict(1)["conversions_per_step"] is None


def test_without_ours_there_are_no_ratios():
    comparison = Comparison(user_case("small"), {"tensorflow": Measured(seconds=[1.0])}, {}, None)
    assert comparison.ratio("tensorflow") is None
    assert comparison.memory_ratio("tensorflow") is None


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run on a user's model: (printed, JSON, PNG)."""
    directory = tmp_path_factory.mktemp("bench")
    files = [directory / "results.json", directory / "results.png"]
    options = ["--step", "--model", "step_models:small", "--batch-size", "2", "--steps", "1"]
    options += ["--contenders", "dfp16", "tensorflow", "pytorch"]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("rich.console.Console.print", lambda self, *what, **_: printed.extend(what))
        assert main(["bench", *options, "--json", str(files[0]), "--plot", str(files[1])]) == 0
    return printed, json.loads(files[0].read_text()), files[1].read_bytes()


@pytest.mark.slow
def test_json(run):
    results = run[1]
    (comparison,) = results["comparisons"]
    assert (comparison["model"], comparison["batch_size"]) == ("step_models:small", 2)
    assert results["machine"]["num_threads"] >= 1
    assert results["versions"]["keras"] == keras.__version__
    found = comparison["contenders"]
    assert list(found) == ["dfp16", "tensorflow"] + ["pytorch"] * HAS_TORCH
    assert comparison["left_out"] == ({} if HAS_TORCH else {"pytorch": "torch is not installed"})
    for contender in found.values():
        assert contender["images_per_second"] == 2 / contender["median"]
        assert contender["ratio"] == contender["median"] / found["dfp16"]["median"]
        assert contender["peak_memory"] > 50 * 2**20
        assert contender["idle_cpu_seconds"] >= 0
    ours = found["dfp16"]
    assert ours["kernel_hits_per_step"]["conv_forward"] == 2
    assert ours["conversions_per_step"]["quantize_weights"] == 3
    assert found["tensorflow"]["conversions_per_step"] is None
    assert found["tensorflow"]["profile"]["conversion"] == 0 < ours["profile"]["conversion"]
    assert min(f["profile"]["convolution"] for f in (ours, found["tensorflow"])) > 0


def test_plot(run):
    assert run[2].startswith(b"\x89PNG")
    assert len(run[2]) > 10_000


def test_tables_name_every_contender_and_the_conversions(run, capsys):
    from rich.console import Console

    for what in run[0]:
        Console(width=200).print(what)
    output = capsys.readouterr().out
    assert "step_models:small, train, batch 2" in output
    for name in run[1]["comparisons"][0]["contenders"]:
        assert any(line.split()[:1] == [name] for line in output.splitlines())
    for kind in (*all_kinds(), BETWEEN):
        assert kind in output
    assert "3 quantize_weights" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--step", "--network", "lenet"), "--network: lenet: expected resnet-small, the name"),
        (("--network", "resnet101"), "--network: resnet101: expected one of resnet50, vgg16"),
        (("--step", "--seconds", "1"), "--seconds: only for layers, without --step"),
        (("--steps", "3", "--inference"), "--inference, --steps: only for use with --step"),
        (("--batch-size", "1", "32"), "--batch-size: expected one number without --step"),
        (("--step", "--plot", "plot.jpg"), "the name of a PNG file must end in .png"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "module"),
        ("--model", "folder/file.py:function"),
        ("--time-limit", "0"),
        ("--steps", "0"),
        ("--contenders", "jax"),
    ],
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--step", *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_a_case_for_each_network_and_batch_size(fake, capsys):
    command = ["bench", "--step", "--inference", "--network", "vgg16", "ResNet50", "--steps", "1"]
    assert main(command) == 0
    output = capsys.readouterr().out
    cases = [
        f"{n}, predict, batch {b}" for n, b in itertools.product(("vgg16", "ResNet50"), (1, 32))
    ]
    places = [output.index(case) for case in cases]
    assert places == sorted(places)
    assert "mixed_bfloat16 was left out, warm-up 1: over 20 s." in output


def test_nobody_could_run(fake, monkeypatch, capsys):
    monkeypatch.setattr(fake, "limit", 0)
    assert main(["bench", "--step"]) == 2
    assert "resnet50, train, batch 16: no contender could run" in capsys.readouterr().err

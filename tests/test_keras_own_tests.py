"""The tests that Keras ships in its wheel, under the policy "dfp16", on the integer kernels.

They run in separate processes, under keras_own_tests/dfp16_plugin.py. What is left out, and why, is
in keras_own_tests/left_out.toml.
"""

import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest

from dfpkeras.integration.installation import release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        release(keras.__version__) < (3, 15), reason="Keras ships its tests from 3.15 on"
    ),
]

FOLDER = pathlib.Path(__file__).with_name("keras_own_tests")

# Layers with an integer path, layers that must be left alone, and what handles any layer.
MODULES = [
    "keras.src.layers.activations.activation_test",
    "keras.src.layers.activations.elu_test",
    "keras.src.layers.activations.leaky_relu_test",
    "keras.src.layers.activations.prelu_test",
    "keras.src.layers.activations.relu_test",
    "keras.src.layers.attention.grouped_query_attention_test",
    "keras.src.layers.attention.multi_head_attention_test",
    "keras.src.layers.convolutional.conv_test",
    "keras.src.layers.convolutional.conv_transpose_test",
    "keras.src.layers.convolutional.depthwise_conv_test",
    "keras.src.layers.convolutional.separable_conv_test",
    "keras.src.layers.core.dense_test",
    "keras.src.layers.core.einsum_dense_test",
    "keras.src.layers.merging.merging_test",
    "keras.src.layers.normalization.batch_normalization_test",
    "keras.src.layers.normalization.group_normalization_test",
    "keras.src.layers.normalization.layer_normalization_test",
    "keras.src.layers.pooling.average_pooling_test",
    "keras.src.layers.pooling.global_average_pooling_test",
    "keras.src.layers.pooling.global_max_pooling_test",
    "keras.src.layers.pooling.max_pooling_test",
    "keras.src.layers.regularization.dropout_test",
    "keras.src.layers.regularization.spatial_dropout_test",
    "keras.src.layers.reshaping.cropping1d_test",
    "keras.src.layers.reshaping.cropping2d_test",
    "keras.src.layers.reshaping.cropping3d_test",
    "keras.src.layers.reshaping.flatten_test",
    "keras.src.layers.reshaping.permute_test",
    "keras.src.layers.reshaping.repeat_vector_test",
    "keras.src.layers.reshaping.reshape_test",
    "keras.src.layers.reshaping.up_sampling1d_test",
    "keras.src.layers.reshaping.up_sampling2d_test",
    "keras.src.layers.reshaping.zero_padding1d_test",
    "keras.src.layers.reshaping.zero_padding2d_test",
    "keras.src.layers.reshaping.zero_padding3d_test",
    "keras.src.layers.rnn.time_distributed_test",
    "keras.src.models.cloning_test",
    "keras.src.models.functional_test",
    "keras.src.models.model_test",
    "keras.src.models.sequential_test",
    "keras.src.models.variable_mapping_test",
    "keras.src.trainers.trainer_test",
]

# Tests that compute with a layer that has weights, and a kernel that each of them must run.
KERNELS = {
    r"conv_test\.py::Conv(Basic|Correctness)Test::test_conv[123]d": "conv_forward",
    r"conv_transpose_test\.py::ConvTranspose.*Test::test_conv[123]d_transpose(_basic)?[01]$": (
        "transposed_conv_forward"
    ),
    r"depthwise_conv_test\.py::Depthwise.*::test_depthwise_conv[12]d": "depthwise_forward",
    r"separable_conv_test\.py::Separable.*::test_separable_conv[12]d": "depthwise_forward",
    r"dense_test\.py::DenseTest::test_dense_(basics|correctness|no_activation|with_activation)": (
        "dense_forward"
    ),
    r"einsum_dense_test\.py::.*_basics_(?!embedding|.*elided_input)": "dense_forward",
    r"einsum_dense_test\.py::.*_basics_.*elided_input": "conv_forward",
    r"multi_head_attention_test\.py::.*::test_(basics\d*|masking[01])$": "dense_forward",
    r"multi_head_attention_test\.py::.*::test_(basics$|masking_(not_)?causal)": "einsum_forward",
    r"grouped_query_attention_test\.py::.*::test_(basics$|masking)": "einsum_forward",
    r"layer_normalization_test\.py::.*::test_ln_basics": "layer_norm_backward",
    r"group_normalization_test\.py::.*::test_groupnorm$": "group_norm_forward",
    r"batch_normalization_test\.py::.*::test_bn_basics": "batch_norm_backward",
    r"batch_normalization_test\.py::.*::test_(trainable_behavior|correctness[0-7]$)": (
        "batch_norm_forward"
    ),
    r"global_average_pooling_test\.py::.*::test_global_average_pooling[123]d": (
        "global_average_pool"
    ),
    r"(sequential|functional)_test\.py::.*::test_basic_flow(_\w+_input)?$": "dense_forward",
    r"trainer_test\.py::TestTrainer::test_(fit|evaluate|predict)_flow": "dense_forward",
}

# Tests that compute with a layer without weights, which must return integers in each of them.
LAYERS = {
    r"activation_test\.py::.*::test_activation_basics": "Activation",
    r"relu_test\.py::.*::test_(default_relu|relu_(all|multi|none))": "ReLU",
    r"elu_test\.py::ELUTest::test_elu$": "ELU",
    r"leaky_relu_test\.py::.*::test_leaky_relu$": "LeakyReLU",
    r"prelu_test\.py::.*::test_prelu": "PReLU",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_multiply$": "Multiply",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_average$": "Average",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_subtract": "Subtract",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_maximum$": "Maximum",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_minimum$": "Minimum",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_add$": "Add",
    r"merging_test\.py::.*::test_(basic|correctness_\w+)_concat$": ("Concatenate"),
    r"average_pooling_test\.py::.*::test_average_pooling1d": "AveragePooling1D",
    r"average_pooling_test\.py::.*::test_average_pooling2d": "AveragePooling2D",
    r"average_pooling_test\.py::.*::test_average_pooling3d": "AveragePooling3D",
    r"max_pooling_test\.py::.*::test_max_pooling1d": "MaxPooling1D",
    r"max_pooling_test\.py::.*::test_max_pooling2d": "MaxPooling2D",
    r"max_pooling_test\.py::.*::test_max_pooling3d": "MaxPooling3D",
    r"global_max_pooling_test\.py::.*::test_global_max_pooling1d": "GlobalMaxPooling1D",
    r"global_max_pooling_test\.py::.*::test_global_max_pooling2d": "GlobalMaxPooling2D",
    r"global_max_pooling_test\.py::.*::test_global_max_pooling3d": "GlobalMaxPooling3D",
    r"zero_padding1d_test\.py::.*::test_zero_padding_1d(\d|_with_same)": "ZeroPadding1D",
    r"zero_padding2d_test\.py::.*::test_zero_padding_2d(\d|_with_same)": "ZeroPadding2D",
    r"zero_padding3d_test\.py::.*::test_zero_padding_3d(\d|_with_same)": "ZeroPadding3D",
    r"cropping1d_test\.py::.*::test_cropping_1d$": "Cropping1D",
    r"cropping2d_test\.py::.*::test_cropping_2d\d": "Cropping2D",
    r"cropping3d_test\.py::.*::test_cropping_3d\d": "Cropping3D",
    r"up_sampling1d_test\.py::.*::test_upsampling_1d(_correctness_with_ones)?$": "UpSampling1D",
    r"up_sampling2d_test\.py::.*::test_upsampling_2d\d": "UpSampling2D",
    r"repeat_vector_test\.py::.*::test_repeat_vector$": "RepeatVector",
    r"permute_test\.py::.*::test_permute_dense": "Permute",
    r"dropout_test\.py::DropoutTest::test_dropout_(basics|rescaling)$": "Dropout",
    r"flatten_test\.py::.*::test_flatten_dense": "Flatten",
    r"reshape_test\.py::.*::test_reshape_(dense|layer_with|model_fit_with)": "Reshape",
}

PRODUCTS = {"conv_forward", "dense_forward"}
FEWEST_TESTS_WITH_PRODUCTS = 150


def left_out():
    return tomllib.loads((FOLDER / "left_out.toml").read_text())["left_out"]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """What ran: ids collected; outcome, kernels and integer layers of each."""
    folder = tmp_path_factory.mktemp("keras")
    halves = MODULES[::2], MODULES[1::2]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(run_keras_tests, halves, (folder / "first", folder / "second"))
    return {key: first[key] + second[key] for key in ("collected", "log")} | {
        key: first[key] | second[key] for key in ("outcomes", "kernels", "layers")
    }


def run_keras_tests(modules, path):
    """Runs test modules of Keras in a separate process, which writes its summary to a path."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "-p", "dfp16_plugin", "--dfp16-summary", str(path)]
    command += ["--rootdir", str(pathlib.Path(keras.__file__).parent), "--pyargs", *modules]
    search_path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": search_path},
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert path.exists(), done.stdout + done.stderr
    return json.loads(path.read_text()) | {"log": done.stdout}


def test_none_fails(summary):
    failed = [test for test, outcome in summary["outcomes"].items() if outcome == "failed"]
    assert not failed, summary["log"]
    patterns = [entry["test"] for entry in left_out()]
    expected = {
        test
        for test in summary["collected"]
        if not any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)
    }
    assert set(summary["outcomes"]) == expected


def matching(summary, pattern):
    tests = [test for test in summary["collected"] if re.match(pattern, test)]
    assert tests, f"no test of Keras matches {pattern}"
    return tests


@pytest.mark.parametrize(("pattern", "kernel"), KERNELS.items(), ids=KERNELS.values())
def test_layers_with_weights_ran_their_kernel(summary, pattern, kernel):
    tests = matching(summary, pattern)
    assert [test for test in tests if kernel not in summary["kernels"][test]] == []


@pytest.mark.parametrize(("pattern", "layer"), LAYERS.items(), ids=LAYERS.values())
def test_layers_without_weights_returned_integers(summary, pattern, layer):
    tests = matching(summary, pattern)
    assert [test for test in tests if layer not in summary["layers"][test]] == []


def test_models_ran_on_integers(summary):
    with_products = [test for test, ran in summary["kernels"].items() if PRODUCTS & set(ran)]
    assert len(with_products) >= FEWEST_TESTS_WITH_PRODUCTS


def test_what_is_left_out_exists_and_has_a_reason(summary):
    for entry in left_out():
        assert fnmatch.filter(summary["collected"], entry["test"])
        assert len(entry["reason"]) > 20
    assert len({entry["test"] for entry in left_out()}) == len(left_out())

"""Every distinct layer of four networks, in every direction, compared with FP32 libraries.

Not collected by a plain ``pytest``; see README.md here. Before each timed round of one contender,
the others take an untimed turn each, so that all run under the same conditions.
"""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

import dfpkeras
from dfpkeras.benchmark.integer_kernels import IntegerKernels
from dfpkeras.benchmark.measure import settle
from dfpkeras.benchmark.networks import NETWORKS
from dfpkeras.benchmark.peers import UnsupportedError, find_peers
from dfpkeras.benchmark.random_operands import make_operands
from dfpkeras.kernels.convolution_plan import DIRECTIONS

BATCH_SIZE = 16
ROUNDS = 7

PEERS, MISSING = find_peers(dfpkeras.get_num_threads())
CONTENDERS = {contender.name: contender for contender in (IntegerKernels(), *PEERS)}
LAYERS = dict.fromkeys(layer for network in NETWORKS.values() for layer in network)


def name_of(layer):
    """The networks that hold the layer, and its label: what ``pytest -k`` selects by."""
    networks = "+".join(name for name, layers in NETWORKS.items() if layer in layers)
    label = layer.label.replace("->", "to").replace(" ", "_")
    return f"{networks}-{label}"


@functools.lru_cache(maxsize=1)
def prepare(layer, direction):
    """({name: call}, {name: why not}); the contenders of one layer follow one another."""
    operands = make_operands(layer, BATCH_SIZE)
    calls, left_out = {}, dict(MISSING)
    for name, contender in CONTENDERS.items():
        try:
            calls[name] = contender.prepare(layer, direction, operands)
        except UnsupportedError as error:
            left_out[name] = str(error)
    return calls, left_out


@pytest.mark.parametrize("contender", [*CONTENDERS, *MISSING])
@pytest.mark.parametrize("layer", list(LAYERS), ids=name_of)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_layer(benchmark, direction, layer, contender):
    calls, left_out = prepare(layer, direction)
    if contender in left_out:
        pytest.skip(f"{contender}: {left_out[contender]}")
    others = [call for name, call in calls.items() if name != contender]

    def let_the_others_run():
        for call in others:
            call()
        settle()
        calls[contender]()  # Wakes its threads up.

    benchmark.group = f"{direction} {name_of(layer)}"
    benchmark.extra_info["macs"] = layer.macs(BATCH_SIZE)
    benchmark.pedantic(calls[contender], setup=let_the_others_run, rounds=ROUNDS, warmup_rounds=1)

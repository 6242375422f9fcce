"""The plain PyTorch network that a Keras model on the PyTorch backend is translated to."""

import importlib.util
import os

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)

PRELUDE = """
import numpy as np, keras, torch, step_models
from keras import layers
from dfpkeras.benchmark.step.case import Case
from dfpkeras.benchmark.step.keras_step import KerasStep
from dfpkeras.benchmark.step.torch_layers import TranslationError
from dfpkeras.benchmark.step.torch_network import TorchNetwork
from dfpkeras.benchmark.step.torch_step import TorchStep
from dfpkeras.benchmark.step.contenders import Contender
from dfpkeras.benchmark.step.worker import Worker

keras.utils.set_random_seed(0)

def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""


@pytest.fixture
def on_torch(run_python):
    """Runs code on Keras' PyTorch backend."""

    def run(code):
        tests = os.path.dirname(__file__)
        path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
        result = run_python(PRELUDE + code, KERAS_BACKEND="torch", PYTHONPATH=path)
        assert result.returncode == 0, result.stderr

    return run


def test_network_predicts_and_learns_what_the_keras_model_does(on_torch):
    on_torch("""
model = step_models.all_layers()
rng = np.random.default_rng(0)
model.set_weights([abs(w + 0.1 * rng.standard_normal(w.shape)) for w in model.get_weights()])
case = Case(None, "step_models:all_layers", 4, inference=True)
step = TorchStep(case, model, TorchNetwork(model))
for ours, theirs in zip(step.run(), KerasStep(case, model).run(), strict=True):
    assert ours.shape == theirs.shape
    close(ours, theirs)

case = Case(None, "step_models:all_layers", 4)
network = TorchNetwork(model)
before = [p.detach().clone() for p in network.parameters()]
for _ in range(2):
    step, keras_step = TorchStep(case, model, network), KerasStep(case, model)
    close(step.run(), keras_step.run()[0])
after = list(TorchNetwork(model).parameters())
changed = 0
for p, q, old in zip(network.parameters(), after, before, strict=True):
    close(p.detach(), q.detach())
    changed += not np.array_equal(p.detach(), old)
assert changed == len(model.trainable_weights)
mean = [m.running_mean for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
want = [w for w in model.weights if w.name == "moving_mean"]
close(mean[0], want[0].numpy())
""")


def test_segmentation_and_attention(on_torch):
    on_torch("""
model = step_models.segmentation_and_attention()
rng = np.random.default_rng(0)
model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
case = Case(None, "step_models:segmentation_and_attention", 4, inference=True)
network = TorchNetwork(model)
for ours, theirs in zip(TorchStep(case, model, network).run(), KerasStep(case, model).run()):
    close(ours, theirs)
case = Case(None, "step_models:segmentation_and_attention", 4)
close(TorchStep(case, model, network).run(), KerasStep(case, model).run()[0])
after = list(TorchNetwork(model).parameters())
assert len(after) == len(model.trainable_weights)
for p, q in zip(network.parameters(), after, strict=True):
    close(p.detach(), q.detach())
""")


def test_gates_and_operations_that_are_no_layers(on_torch):
    on_torch("""
model = step_models.squeeze_and_excite()
rng = np.random.default_rng(0)
model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
case = Case(None, "step_models:squeeze_and_excite", 4, inference=True)
network = TorchNetwork(model)
close(TorchStep(case, model, network).run()[0], KerasStep(case, model).run())
case = Case(None, "step_models:squeeze_and_excite", 4)
close(TorchStep(case, model, network).run(), KerasStep(case, model).run())
for p, q in zip(network.parameters(), TorchNetwork(model).parameters(), strict=True):
    close(p.detach(), q.detach())

drop = TorchNetwork(keras.Sequential([
    keras.Input((4, 4, 3)), layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))
]))
(y,) = drop.train()(torch.ones(200, 4, 4, 3))
kept = y.flatten(1)
assert set(kept.unique().tolist()) == {0.0, 2.0}
assert (kept == kept[:, :1]).all()
assert 60 < (kept[:, 0] > 0).sum() < 140
assert (drop.eval()(torch.ones(2, 4, 4, 3))[0] == 1).all()

image = keras.Input((8, 8, 3))
try:
    TorchNetwork(keras.Model(image, keras.ops.sin(image)))
except TranslationError as error:
    assert "is a Sin that has no translation" in str(error)
else:
    raise AssertionError
""")


def test_autocast(on_torch):
    on_torch("""
model = step_models.all_layers()
case = Case(None, "step_models:all_layers", 4, inference=True)
plain = TorchStep(case, model, TorchNetwork(model))
step = TorchStep(case, model, TorchNetwork(model), autocast="bfloat16")
assert step.implementation == "plain PyTorch, channels_last, bfloat16 autocast"
for ours, theirs in zip(step.run(), plain.run(), strict=True):
    assert ours.dtype == np.float32 and not np.array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, atol=0.05 * abs(theirs).max())
TorchStep(Case(None, "step_models:all_layers", 4), model, TorchNetwork(model), "bfloat16").run()
""")


def test_resnet50_is_that_of_keras(on_torch):
    on_torch("""
case = Case("resnet50", None, 2, 33, inference=True)
model = case.build()
network = TorchNetwork(model)
close(TorchStep(case, model, network).run()[0], KerasStep(case, model).run())
learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
assert learned == sum(int(np.prod(w.shape)) for w in model.trainable_weights)

# Zeros are part of the layer after them, and nothing is written twice.
assert not [m for m in network.modules() if isinstance(m, torch.nn.ZeroPad2d)]
stem = network.layers[0]
assert stem.padding == (3, 3)
assert stem.weight.is_contiguous(memory_format=torch.channels_last)
relus = [m for m in network.modules() if isinstance(m, torch.nn.ReLU)]
assert len(relus) == 49
assert all(m.inplace for m in relus)
""")


def test_zeros_on_one_side_become_zeros_on_both_and_unknown_layers_are_refused(on_torch):
    on_torch("""
image = keras.Input((8, 8, 3))
model = keras.Model(image, layers.Conv2D(4, 3, strides=2, padding="same")(image))
network = TorchNetwork(model)
assert network.layers[0].padding == (1, 1)
assert network(torch.zeros(2, 8, 8, 3))[0].shape == (2, 4, 4, 4)

for layer, message in (
    (layers.Conv2D(4, 2, padding="same"), "pads by 1 zeros"),
    (layers.Conv2D(4, 3, activation="softplus"), "the activation softplus"),
    (layers.Dropout(0.5, noise_shape=(None, 1, 1, 3)), "is a Dropout that has no translation"),
    (layers.ReLU(max_value=3.0), "is a ReLU that has no translation"),
    (layers.LayerNormalization(), "is a LayerNormalization that has no translation"),
    (layers.BatchNormalization(axis=1), "normalises axis 1"),
    (layers.Conv2D(4, 3, trainable=False), "is not trainable"),
    (step_models.small_cnn(), "is a Sequential that has no translation"),
):
    try:
        TorchNetwork(keras.Model(image, layer(image)))
    except TranslationError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)

pytorch = Contender("pytorch", "torch", "float32")
worker = Worker(pytorch, Case(None, "step_models:open_sizes", 2, 8))
assert worker.build()[0] == "plain PyTorch, channels_last"
worker = Worker(pytorch, Case(None, "step_models:nested", 2))
implementation, remark = worker.build()
assert implementation == "Keras"
assert "has no translation" in remark
worker.turn(0)
""")

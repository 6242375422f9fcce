"""From a Keras model on the PyTorch backend to the plain `torch.nn.Module` of the same network.

Keras' PyTorch backend takes 2.3 times as long for a step of ResNet-50 as the layers of `torch.nn`
(Keras 3.15, PyTorch 2.13, 2 cores with AVX-512, batch 16), so these are what to compare with.
"""

import collections
import typing

import keras
import torch
from keras import layers
from torch import nn

from dfpkeras.benchmark.step.torch_layers import TranslationError, translate, translate_operation

# Their results are not needed in the backward pass: the next layer may overwrite them.
_OVERWRITABLE = (layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization, layers.Add)
# Layers that can pad by themselves.
_PADDING = (layers.Conv2D, layers.DepthwiseConv2D, layers.MaxPooling2D)


class _Call(typing.NamedTuple):
    """A call of a module on numbered tensors, some of which nothing needs after it."""

    module: nn.Module
    inputs: tuple
    output: int
    released: tuple


class TorchNetwork(nn.Module):
    """The layers of a functional or sequential Keras model, with its weights.

    Convolutions compute in channels_last memory format; padding is part of the convolution or max
    pooling after it, and activations and additions work in place where the value before is not
    needed, as in PyTorch's own definitions of these networks. Zeros on one side only ("same" with
    strides) become zeros on both: results are shifted by a pixel, sizes and work are the same. The
    zeros before a max pooling become -inf, which makes no difference after a ReLU.

    Args:
        model: a `keras.Model` on the PyTorch backend, its images channels_last.

    Raises:
        TranslationError: the model, a layer or an option of a layer has no translation.
    """

    def __init__(self, model):
        super().__init__()
        graph = _Graph(model)
        self._inputs = [graph.number(tensor) for tensor in model.inputs]
        self._outputs = [graph.number(tensor) for tensor in model.outputs]
        self._calls = graph.calls()
        self.layers = nn.ModuleList(call.module for call in self._calls)
        self.to(memory_format=torch.channels_last)

    def forward(self, *inputs):
        """Takes and returns tensors as the Keras model does; always returns a list."""
        tensors = dict(zip(self._inputs, map(_channels_first, inputs), strict=True))
        for call in self._calls:
            tensors[call.output] = call.module(*(tensors[i] for i in call.inputs))
            for i in call.released:
                del tensors[i]
        return [_channels_last(tensors[i]) for i in self._outputs]


class _Graph:
    """The nodes of a Keras model: which layer makes which tensor from which."""

    def __init__(self, model):
        self._nodes = _nodes(model)
        self._numbers = {}
        self._producers = {id(node.outputs[0]): node.operation for node in self._nodes}
        self._consumers = collections.defaultdict(list)
        for node in self._nodes:
            for tensor in node.input_tensors:
                self._consumers[id(tensor)].append(node.operation)
        for tensor in model.outputs:
            self._consumers[id(tensor)].append(None)

    def number(self, tensor):
        """A number for each tensor."""
        return self._numbers.setdefault(id(tensor), len(self._numbers))

    def calls(self):
        """The calls in an order in which they can run."""
        calls, zeros = [], {}
        for node in self._nodes:
            layer, inputs, output = node.operation, node.input_tensors, node.outputs[0]
            if isinstance(layer, layers.ZeroPadding2D) and self._padded_by_next(output):
                # The next layer reads this one's input.
                self._numbers[id(output)] = self.number(inputs[0])
                zeros[id(output)] = inputs[0].shape, tuple(map(sum, layer.padding))
                continue
            shape, padding = zeros.get(id(inputs[0]), (inputs[0].shape, (0, 0)))
            if isinstance(layer, keras.layers.Layer):
                in_place = self._in_place(layer, inputs)
                module = translate(layer, shape, output.shape, padding, in_place)
            else:
                module = translate_operation(layer, node.arguments.args[-1])
            calls.append((module, tuple(map(self.number, inputs)), self.number(output)))
        return self._release(calls)

    def _padded_by_next(self, tensor):
        consumers = self._consumers[id(tensor)]
        return len(consumers) == 1 and isinstance(consumers[0], _PADDING)

    def _in_place(self, layer, inputs):
        free = [self._may_overwrite(tensor) for tensor in inputs]
        if isinstance(layer, layers.Add):
            return free.index(True) if True in free else None
        return free[0]

    def _may_overwrite(self, tensor):
        made_by = self._producers.get(id(tensor))
        if not isinstance(made_by, _OVERWRITABLE) or len(self._consumers[id(tensor)]) > 1:
            return False
        # If the layer has an activation, its result is needed in the backward pass.
        return getattr(made_by, "activation", keras.activations.linear) is keras.activations.linear

    def _release(self, calls):
        last = {number: i for i, (_, inputs, _) in enumerate(calls) for number in inputs}
        kept = {self._numbers[tensor] for tensor, by in self._consumers.items() if None in by}
        return [
            _Call(*call, tuple(n for n in dict.fromkeys(call[1]) if last[n] == i and n not in kept))
            for i, call in enumerate(calls)
        ]


def _nodes(model):
    """The nodes of a functional or sequential model in an order in which they can run."""
    model = getattr(model, "_functional", model)
    if not hasattr(model, "_nodes_by_depth"):
        raise TranslationError(f"{model.name} is neither a functional nor a sequential model")
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth]]
    return [node for node in nodes if not isinstance(node.operation, layers.InputLayer)]


def _channels_first(x):
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _channels_last(x):
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x

"""Keras layers as modules of `torch.nn`, with their weights. Images are channels_first here."""

import torch
from keras import layers
from torch import nn

from dfpkeras.benchmark.step.functions import AddPositions

_ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_silu": nn.Hardswish,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}
_IN_PLACE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid)


class TranslationError(Exception):
    """A model has something that cannot be translated; the message says what."""


class Concatenate(nn.Module):
    """Puts channels side by side."""

    def forward(self, *inputs):
        return torch.cat(inputs, 1)


class Add(nn.Module):
    """Adds tensors, in place into the one with index `target` if that is not None."""

    def __init__(self, target):
        super().__init__()
        self._target = target

    def forward(self, *inputs):
        if self._target is None:
            return sum(inputs[1:], inputs[0])
        others = list(inputs)
        total = others.pop(self._target)
        for other in others:
            total += other
        return total


class Multiply(nn.Module):
    """Multiplies tensors, which may broadcast."""

    def forward(self, first, *others):
        for other in others:
            first = first * other
        return first


class Linear(nn.Module):
    """`x * scale + offset`, numbers or one for each channel."""

    def __init__(self, scale, offset):
        super().__init__()
        self._scale, self._offset = scale, offset

    def forward(self, x):
        return x * self._scale + self._offset


class DropImages(nn.Module):
    """Drops images, and multiplies those that are kept by `1 / (1 - rate)`."""

    def __init__(self, rate):
        super().__init__()
        self._rate = rate

    def forward(self, x):
        if not self.training:
            return x
        kept = x.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(1 - self._rate)
        return x * kept / (1 - self._rate)


class Tokens(nn.Module):
    """The pixels of an image as tokens (N, pixels, channels)."""

    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


class Mean(nn.Module):
    """The mean of the tokens of each example."""

    def forward(self, x):
        return x.mean(1)


class AddToEach(nn.Module):
    """Adds a parameter to each example."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())

    def forward(self, x):
        return x + self.value


class Attention(nn.Module):
    """Multi-head attention of tokens (N, tokens, channels), with the weights of a Keras layer."""

    def __init__(self, layer, channels):
        super().__init__()
        self._heads = layer.num_heads
        projections = (layer.query_dense, layer.key_dense, layer.value_dense)
        self.projections = nn.ModuleList(map(_projection, projections))
        self.output = _projection(layer.output_dense, into=channels)

    def forward(self, queries, values):
        operands = zip(self.projections, (queries, values, values), strict=True)
        q, k, v = (self._split(projection(x)) for projection, x in operands)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.output(y.transpose(1, 2).flatten(2))

    def _split(self, x):
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)


def _projection(layer, into=None):
    """A `keras.layers.EinsumDense` of all heads at once."""
    kernel = layer.kernel.value.detach()
    kernel = kernel.flatten(0, -2) if into else kernel.flatten(1)
    module = nn.Linear(*kernel.shape, bias=layer.bias is not None)
    with torch.no_grad():
        module.weight.copy_(kernel.t())
        if layer.bias is not None:
            module.bias.copy_(layer.bias.value.flatten())
    return module


class AsPixel(nn.Module):
    """A vector for each image as one pixel."""

    def forward(self, x):
        return x.flatten(1)[:, :, None, None]


class Flatten(nn.Module):
    """Flattens images as Keras does, channels last, which is their order in memory."""

    def forward(self, x):
        return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).flatten(1)


def translate(layer, input_shape, output_shape, zeros, in_place):
    """Translates a layer.

    Args:
        layer: a Keras layer on the PyTorch backend.
        input_shape, output_shape: as Keras has them, of its first input and of its output.
        zeros: (rows, columns) that a preceding ZeroPadding2D adds to the images of a convolution or
            pooling, both sides together.
        in_place: for an activation, whether it may overwrite its input; for an Add, the index of
            the input that it may overwrite, or None.

    Returns:
        A `torch.nn.Module`.

    Raises:
        TranslationError: this layer, or an option of it, has no translation.
    """
    if not layer.trainable:
        raise TranslationError(f"{layer.name} is not trainable")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise TranslationError(f"{layer.name} is {layer.data_format}")
    shapes = input_shape, output_shape
    match layer:
        case layers.DepthwiseConv2D() | layers.Conv2D():
            return _with_activation(_convolution(layer, *shapes, zeros), layer)
        case layers.Conv2DTranspose() if _covers_once(layer):
            return _with_activation(_transposed_convolution(layer, *shapes), layer)
        case layers.Dense() if len(input_shape) in (2, 3):
            return _with_activation(_dense(layer), layer)
        case layers.MultiHeadAttention():
            return Attention(layer, output_shape[-1])
        case layers.LayerNormalization() if layer.axis in (-1, [-1]) and len(input_shape) == 3:
            return _layer_norm(layer)
        case AddPositions():
            return AddToEach(layer.positions.value)
        case layers.BatchNormalization():
            return _batch_norm(layer, len(input_shape))
        case layers.MaxPooling2D():
            padding = _padding(layer, layer.pool_size, (1, 1), *shapes, zeros)
            return nn.MaxPool2d(layer.pool_size, layer.strides, padding)
        case layers.AveragePooling2D():
            padding = _padding(layer, layer.pool_size, (1, 1), *shapes, zeros)
            return nn.AvgPool2d(layer.pool_size, layer.strides, padding, count_include_pad=False)
        case layers.GlobalAveragePooling2D():
            mean = nn.AdaptiveAvgPool2d(1)
            return mean if layer.keepdims else nn.Sequential(mean, nn.Flatten())
        case layers.GlobalAveragePooling1D() if not layer.keepdims:
            return Mean()
        case layers.ReLU() if _relu(layer):
            return _relu(layer)(inplace=in_place)
        case layers.Activation():
            return _activation(layer, in_place)
        case layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            return nn.ZeroPad2d((left, right, top, bottom))
        case layers.Add() if input_shape == output_shape:
            return Add(in_place)
        case layers.Concatenate() if layer.axis in (-1, len(input_shape) - 1):
            return Concatenate()
        case layers.Multiply():
            return Multiply()
        case layers.Rescaling():
            return Linear(layer.scale, layer.offset)
        case layers.Normalization() if set(layer.axis) <= {-1, len(input_shape) - 1}:
            return _normalization(layer)
        case layers.Flatten():
            return Flatten()
        case layers.Reshape() if output_shape[1:-1] == (1, 1) and len(input_shape) == 2:
            return AsPixel()
        case layers.Reshape() if len(input_shape) == 4 and len(output_shape) == 3:
            return Tokens()
        case layers.Dropout() if layer.noise_shape is None:
            return nn.Dropout(layer.rate)
        case layers.Dropout() if set(layer.noise_shape[1:]) == {1}:
            return DropImages(layer.rate)
    raise TranslationError(f"{layer.name} is a {type(layer).__name__} that has no translation")


def translate_operation(operation, number):
    """Translates a sum or product of a tensor and a number that a model computes without a layer.

    Raises:
        TranslationError: it is anything else.
    """
    name = type(operation).__name__
    if isinstance(number, int | float) and name in ("Add", "Multiply"):
        return Linear(1, number) if name == "Add" else Linear(number, 0)
    raise TranslationError(f"{operation.name} is a {name} that has no translation")


def _normalization(layer):
    mean, variance = (
        torch.as_tensor(value).detach().reshape(-1, 1, 1) for value in (layer.mean, layer.variance)
    )
    return Linear(1 / variance.sqrt(), -mean / variance.sqrt())


def _convolution(layer, input_shape, output_shape, zeros):
    kernel = layer.kernel.value.detach()
    if isinstance(layer, layers.DepthwiseConv2D):
        groups = input_shape[-1]
        weight = kernel.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    else:
        groups, weight = layer.groups, kernel.permute(3, 2, 0, 1)
    module = nn.Conv2d(
        input_shape[-1],
        output_shape[-1],
        layer.kernel_size,
        layer.strides,
        _padding(layer, layer.kernel_size, layer.dilation_rate, input_shape, output_shape, zeros),
        layer.dilation_rate,
        groups,
        layer.use_bias,
    )
    return _set_weights(module, layer, weight)


def _covers_once(layer):
    """Whether each pixel of the result is of one window."""
    return layer.kernel_size == layer.strides and layer.dilation_rate == (1, 1)


def _transposed_convolution(layer, input_shape, output_shape):
    channels = input_shape[-1], output_shape[-1]
    module = nn.ConvTranspose2d(*channels, layer.kernel_size, layer.strides, bias=layer.use_bias)
    return _set_weights(module, layer, layer.kernel.value.detach().permute(3, 2, 0, 1))


def _layer_norm(layer):
    module = nn.LayerNorm(layer.gamma.shape, layer.epsilon)
    with torch.no_grad():
        module.weight.copy_(layer.gamma.value)
        module.bias.copy_(layer.beta.value)
    return module


def _dense(layer):
    kernel = layer.kernel.value.detach()
    return _set_weights(nn.Linear(*kernel.shape, bias=layer.use_bias), layer, kernel.t())


def _set_weights(module, layer, weight):
    with torch.no_grad():
        module.weight.copy_(weight)
        if layer.use_bias:
            module.bias.copy_(layer.bias.value)
    return module


def _batch_norm(layer, rank):
    if layer.axis not in (-1, rank - 1, [rank - 1]):
        raise TranslationError(f"{layer.name} normalises axis {layer.axis}")
    kind = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
    module = kind(len(layer.moving_mean.value), layer.epsilon, 1 - layer.momentum)
    with torch.no_grad():
        module.running_mean.copy_(layer.moving_mean.value)
        module.running_var.copy_(layer.moving_variance.value)
        for parameter, value in ((module.weight, layer.gamma), (module.bias, layer.beta)):
            parameter.requires_grad = value is not None
            if value is not None:
                parameter.copy_(value.value)
    return module


def _padding(layer, kernel_size, dilation_rate, input_shape, output_shape, zeros):
    """Zeros on every side, so that the output has the size it has in Keras."""
    if layer.padding == "valid" and zeros == (0, 0):
        return 0, 0
    if None in input_shape[1:]:
        raise TranslationError(f"{layer.name} pads images of unknown size")
    padding = []
    for i in range(2):
        size, out, stride = input_shape[1 + i], output_shape[1 + i], layer.strides[i]
        extent = (kernel_size[i] - 1) * dilation_rate[i] + 1
        total = zeros[i]
        if layer.padding == "same":
            total = max((out - 1) * stride + extent - size, 0)
        padding.append(-(-total // 2))
        if (size + 2 * padding[i] - extent) // stride + 1 != out:
            raise TranslationError(f"{layer.name} pads by {total} zeros, one side more than other")
    return tuple(padding)


def _with_activation(module, layer):
    if layer.activation.__name__ == "linear":
        return module
    return nn.Sequential(module, _activation(layer, in_place=True))


def _activation(layer, in_place):
    name = layer.activation.__name__
    if name == "softmax":
        return nn.Softmax(1)
    if name == "linear":
        return nn.Identity()
    if name not in _ACTIVATIONS:
        raise TranslationError(f"{layer.name} has the activation {name}, which has no translation")
    kind = _ACTIVATIONS[name]
    return kind(inplace=in_place) if kind in _IN_PLACE else kind()


def _relu(layer):
    if layer.negative_slope or layer.threshold:
        return None
    return {None: nn.ReLU, 6: nn.ReLU6}.get(layer.max_value)

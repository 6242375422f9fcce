"""Activations whose gradient needs their argument, and their derivatives, in float64: written from
their definitions in docs/numerics.md."""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(v):
    return 0.5 * (1 + np.tanh(0.5 * v))


def softplus(v):
    return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))


def normal(v):
    return 0.5 * (1 + _erf(v / math.sqrt(2)))


def density(v):
    return np.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)


def gelu_argument(v):
    return 2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)


def gelu_tanh_slope(v):
    s = sigmoid(gelu_argument(v))
    return s + v * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * v * v)


def elu(v, alpha):
    return np.where(v > 0, v, alpha * np.expm1(np.minimum(v, 0)))


def elu_slope(v, alpha):
    return np.where(v > 0, 1, alpha * np.exp(np.minimum(v, 0)))


def hard_sigmoid(v):
    return np.clip(v + 3, 0, 6) / 6


def hard_sigmoid_slope(v):
    return np.where(np.abs(v) < 3, 1 / 6, 0)


def mish_slope(v):
    t = np.tanh(softplus(v))
    return t + v * (1 - t * t) * sigmoid(v)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

#: name: (value, derivative) of v and the parameter alpha.
FUNCTIONS = {
    "elu": (elu, elu_slope),
    "gelu": (lambda v, _: v * normal(v), lambda v, _: normal(v) + v * density(v)),
    "gelu_tanh": (lambda v, _: v * sigmoid(gelu_argument(v)), lambda v, _: gelu_tanh_slope(v)),
    "hard_sigmoid": (lambda v, _: hard_sigmoid(v), lambda v, _: hard_sigmoid_slope(v)),
    "hard_silu": (
        lambda v, _: v * hard_sigmoid(v),
        lambda v, _: hard_sigmoid(v) + v * hard_sigmoid_slope(v),
    ),
    "leaky_relu": (
        lambda v, alpha: np.where(v > 0, v, alpha * v),
        lambda v, alpha: np.where(v > 0, 1, alpha),
    ),
    "mish": (lambda v, _: v * np.tanh(softplus(v)), lambda v, _: mish_slope(v)),
    "selu": (
        lambda v, _: SELU_SCALE * elu(v, SELU_ALPHA),
        lambda v, _: SELU_SCALE * np.where(v < 0, SELU_ALPHA * np.exp(np.minimum(v, 0)), 1),
    ),
    "sigmoid": (lambda v, _: sigmoid(v), lambda v, _: sigmoid(v) * sigmoid(-v)),
    "silu": (
        lambda v, _: v * sigmoid(v),
        lambda v, _: sigmoid(v) * (1 + v * sigmoid(-v)),
    ),
    "softplus": (lambda v, _: softplus(v), lambda v, _: sigmoid(v)),
    "softsign": (lambda v, _: v / (1 + np.abs(v)), lambda v, _: 1 / (1 + np.abs(v)) ** 2),
    "tanh": (lambda v, _: np.tanh(v), lambda v, _: 1 - np.tanh(v) ** 2),
}

#: Where a derivative jumps: there a float32 argument may lie on the other side.
JUMPS = {
    "elu": (0,),
    "hard_sigmoid": (-3, 3),
    "hard_silu": (-3, 3),
    "leaky_relu": (0,),
    "selu": (0,),
}

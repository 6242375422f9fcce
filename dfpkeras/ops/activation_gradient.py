"""The gradient of activations, fused with another operation or not."""

import functools

from dfpkeras.backend import current
from dfpkeras.ops.views import quantized_result, sum_gradients


def activation_gradient(x, y, activation, number_format, dy):
    """The gradient of an activation of `x`, differentiable: it is linear in `dy`.

    Args:
        x: float32 tensor.
        y: `QuantizedView` of the activation's result.
        activation: "relu" or "relu6".
        number_format: `NumberFormat`.
        dy: float32 tensor, the upstream gradient.
    """
    dy = current().as_tensor(dy)
    dx = sum_gradients(dy, number_format.gradient, y, activation)

    def float32_values(dy):
        return current().float32_gradient(float32_activation(activation), [x], [dy])

    gradient = functools.partial(activation_gradient, x, y, activation, number_format)
    return quantized_result(dx, [dy], gradient, float32_values)


def float32_activation(activation):
    """The backend's own function for an activation."""
    operations = current().float32_operations
    return {"relu": operations.relu, "relu6": operations.relu6}[activation]

"""What normalisations with statistics of each image have in common: results and gradients."""

import functools

from dfpkeras.backend import current
from dfpkeras.ops.views import (
    attach_view,
    dequantized,
    differentiable_in_float32,
    gradient_operand,
    make_view,
    quantized_result,
    view_dtypes,
)


def normalization_result(
    x, operands, parameters, *, forward, backward, float32_forward, statistics, number_format
):
    """The result of a normalisation of `x`, differentiable.

    Args:
        x: float32 tensor (..., channels).
        operands: those of the kernels that stand for `x`, by name.
        parameters: dict of gamma and beta, float32 tensors or variables (channels,), or None.
        forward: kernel of `operands` and parameters; it returns the arrays of a quantised tensor
            and of each of the statistics.
        backward: kernel of `operands`, statistics, gamma and "dy"; it returns the arrays of dx,
            dgamma and dbeta.
        float32_forward: function of `x` and a dict of parameters, in the backend's operations.
        statistics: names under which the backward kernel takes what the forward kernel returned.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the shape of `x`, with a quantised view.
    """
    backend, tensor_format = current(), number_format.activation
    parameters = {
        name: backend.in_scope(value) for name, value in parameters.items() if value is not None
    }
    dtypes = [*view_dtypes(), *(backend.float32 for _ in statistics)]
    data, scale, *found = backend.call(forward, {**operands, **parameters}, dtypes)
    y = make_view(data, scale, x.shape, tensor_format)
    known = {**operands, **dict(zip(statistics, found, strict=True))}
    if "gamma" in parameters:
        known["gamma"] = parameters["gamma"]
    names = list(parameters)

    def float32_values(x, *values):
        return float32_forward(x, dict(zip(names, values, strict=True)))

    gradient = functools.partial(
        _gradients, x, parameters, known, backward, float32_values, number_format.gradient
    )
    return quantized_result(y, [x, *parameters.values()], gradient, float32_values)


def _gradients(x, parameters, known, kernel, float32_forward, tensor_format, dy):
    backend, dy = current(), current().as_tensor(dy)
    of_gradient = gradient_operand("dy", dy, tensor_format)
    dtypes = [*view_dtypes(), backend.float32, backend.float32]
    data, scale, dgamma, dbeta = backend.call(kernel, {**known, **of_gradient}, dtypes)
    dx = make_view(data, scale, x.shape, tensor_format)
    of_parameters = {"gamma": dgamma, "beta": dbeta}
    of_parameters = [backend.with_shape(of_parameters[name], x.shape[-1:]) for name in parameters]

    def float32_values(which, dy, *inputs):
        return current().float32_gradient(float32_forward, inputs, [dy])[which]

    def with_gradient(values, which):
        of_inputs = functools.partial(float32_values, which)
        return differentiable_in_float32(values, [dy, x, *parameters.values()], of_inputs)

    # Apart: whoever reads the parameters' gradients does not read the float32 value of dx.
    result = attach_view(with_gradient(dequantized(dx), 0), dx)
    return [result, *(with_gradient(of_parameters, slice(1, None)) if parameters else [])]

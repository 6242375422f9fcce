"""Signal-to-noise ratios, in dB: of quantised operands and of what is computed from them.

The signal is the float32 tensor as captured, or the product of such tensors computed in float64.
"""

import ml_dtypes
import numpy as np
import tensorflow as tf

import dfpkeras
from dfpkeras import kernels


def decibels(signal, noisy):
    """Returns 10 * log10(sum(signal**2) / sum((noisy - signal)**2)); inf without noise."""
    signal = signal.astype(np.float64).ravel()
    noise = noisy.astype(np.float64).ravel() - signal
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.divide(signal @ signal, noise @ noise)))


def operand_snr(x, bits):
    """Signal-to-noise ratio of a float32 array rounded to nearest with `bits` magnitude bits."""
    return decibels(x, dfpkeras.quantize(x, bits).dequantize())


def bfloat16_snr(x):
    """Signal-to-noise ratio of a float32 array rounded to bfloat16."""
    return decibels(x, x.astype(ml_dtypes.bfloat16))


def exact_results(layer):
    """Returns {direction: float64 result} of a `LayerTensors`."""
    return _float_results(layer, tf.float64)


def result_snr(exact, layer, bits):
    """Signal-to-noise ratio of each direction computed from quantised operands.

    Args:
        exact: what `exact_results` returned for the layer.
        layer: `LayerTensors`.
        bits: {"x": bits, "w": bits, "dy": bits}.

    Returns:
        {direction: dB}.
    """
    results = integer_results(layer, bits)
    return {direction: decibels(exact[direction], results[direction]) for direction in results}


def integer_results(layer, bits, algorithm="direct"):
    """Returns {direction: float32 result} from quantised operands; `bits` as in `result_snr`."""
    x, w, dy = (dfpkeras.quantize(getattr(layer, role), bits[role]) for role in ("x", "w", "dy"))
    options = {"strides": layer.strides, "padding": layer.padding, "algorithm": algorithm}
    return {
        "forward": kernels.conv2d_forward(x, w, **options),
        "backward_data": kernels.conv2d_backward_data(dy, w, layer.x.shape, **options),
        "backward_weights": kernels.conv2d_backward_weights(x, dy, layer.w.shape, **options),
    }


def float32_snr(exact, layer):
    """Signal-to-noise ratio of each direction computed by TensorFlow in float32."""
    results = _float_results(layer, tf.float32)
    return {direction: decibels(exact[direction], results[direction]) for direction in results}


def batch_snr(layer):
    """Signal-to-noise ratio of dw as an estimate of its expectation, from one batch.

    Both halves of the batch estimate half of dw; the variance of their sum is that of their
    difference.
    """
    half = len(layer.x) // 2
    x, dy = (dfpkeras.quantize(t) for t in (layer.x, layer.dy))
    halves = [
        kernels.conv2d_backward_weights(
            dfpkeras.DFPTensor(x.data[part], x.exponent),
            dfpkeras.DFPTensor(dy.data[part], dy.exponent),
            layer.w.shape,
            layer.strides,
            layer.padding,
        )
        for part in (slice(half), slice(half, None))
    ]
    total = halves[0] + halves[1]
    return decibels(total, total + halves[0] - halves[1])


def _float_results(layer, dtype):
    x, w, dy = (tf.constant(t, dtype) for t in (layer.x, layer.w, layer.dy))
    with tf.GradientTape() as tape:
        tape.watch((x, w))
        y = tf.nn.conv2d(x, w, layer.strides, layer.padding.upper())
    dx, dw = tape.gradient(y, (x, w), dy)
    results = {"forward": y, "backward_data": dx, "backward_weights": dw}
    return {direction: result.numpy() for direction, result in results.items()}

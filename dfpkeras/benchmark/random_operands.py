"""Random operands, distributed as in training.

Where the kernels' INT32 sums go to FP32 depends on the data, so the data must be realistic: the
ratio of a gradient's largest to its mean magnitude is 15 to 80 in the layers of a small ResNet
trained on CIFAR, a normal distribution's is about 6.
"""

import numpy as np

# Spread of the gradient's scale from element to element. Ratios of largest to mean magnitude are
# then 30 to 90 for 10,000 to 10 million elements.
_LOG_SCALE = np.float32(0.8)


def make_operands(layer, batch_size, seed=0):
    """Makes the operands of a layer's three directions.

    Args:
        layer: `Convolution` or `Dense`.
        batch_size: images.
        seed: seed of the random generator.

    Returns:
        A dict of float32 arrays: "x" as after a ReLU, "w" normal, and "dy" normal with a
        log-normal scale, which has the long tails of gradients.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(layer.x_shape(batch_size), np.float32)
    w = rng.standard_normal(layer.w_shape, np.float32)
    dy = rng.standard_normal(layer.y_shape(batch_size), np.float32)
    scale = rng.standard_normal(dy.shape, np.float32)
    scale *= _LOG_SCALE
    dy *= np.exp(scale, out=scale)
    return {"x": np.maximum(x, 0, out=x), "w": w, "dy": dy}

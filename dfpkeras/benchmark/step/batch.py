"""Random numbers for a step."""

import numpy as np


def make_batch(input_shapes, input_dtypes, output_shapes, classes=None, seed=0):
    """Makes the inputs and targets of a step.

    Args:
        input_shapes: list of tuples, images first.
        input_dtypes: list of str; integer inputs get zeros and ones.
        output_shapes: list of tuples, shapes of the model's outputs; the first dimension is
            ignored.
        classes: number of classes, for labels; None for targets of the outputs' shapes.
        seed: seed of the random generator.

    Returns:
        (inputs, targets): two lists of arrays, normal float32 numbers unless stated otherwise.
    """
    rng = np.random.default_rng(seed)
    inputs = [_random(rng, *pair) for pair in zip(input_shapes, input_dtypes, strict=True)]
    batch_size = input_shapes[0][0]
    if classes is not None:
        return inputs, [rng.integers(0, classes, batch_size)]
    return inputs, [_random(rng, (batch_size, *shape[1:]), "float32") for shape in output_shapes]


def _random(rng, shape, dtype):
    if dtype.startswith(("int", "uint", "bool")):
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape, np.float32)

"""Stochastic gradient descent with weight decay as in the publications of image networks."""

import keras


@keras.saving.register_keras_serializable(package="dfpkeras")
class SGD(keras.optimizers.SGD):
    """``keras.optimizers.SGD`` with an L2 penalty in the gradient.

    A step adds ``l2 * w`` to the gradient of a weight ``w`` and is otherwise Keras' own, so the
    decay passes through the momentum (Krizhevsky et al. 2012, section 5; Goyal et al. 2017,
    section 3). Keras' ``weight_decay`` subtracts ``learning_rate * weight_decay * w`` from the
    weight, bypassing the momentum: with momentum m, about 1 - m times as much decay.

    Args:
        learning_rate, momentum, nesterov: as in ``keras.optimizers.SGD``.
        l2: the factor, at least 0.
        exempt: names of variables that do not decay, such as ``"bias"``, ``"gamma"``, ``"beta"``.
        **kwargs: further arguments of ``keras.optimizers.SGD``.

    Raises:
        ValueError: ``l2`` is negative, or ``exempt`` is a str.
    """

    def __init__(
        self, learning_rate=0.01, momentum=0.0, nesterov=False, l2=0.0, exempt=(), **kwargs
    ):
        super().__init__(learning_rate, momentum, nesterov, **kwargs)
        if not l2 >= 0:
            raise ValueError(f"l2 must be at least 0, got {l2}")
        if isinstance(exempt, str):
            raise ValueError(f"exempt must be a sequence of names, got the str {exempt!r}")
        self.l2 = l2
        self.exempt = tuple(exempt)

    def build(self, variables):
        if not self.built:
            self._decays = [self.l2 > 0 and v.name not in self.exempt for v in variables]
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        if self._decays[self._get_variable_index(variable)]:
            gradient = keras.ops.add(gradient, keras.ops.multiply(variable, self.l2))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"l2": self.l2, "exempt": list(self.exempt)}

"""Cross-entropy with label smoothing, for integer labels."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="dfpkeras")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy with a target that is partly spread over all classes.

    The target is ``1 - smoothing`` at the label plus ``smoothing / classes`` everywhere (Szegedy
    et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7), without
    making one-hot vectors.

    Args:
        smoothing: float from 0 to 1.
        name: name of the loss.
        **kwargs: ``reduction`` and ``dtype``, as for all Keras losses.

    Raises:
        ValueError: ``smoothing`` is not from 0 to 1.
    """

    def __init__(self, smoothing, name="smoothed_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing must be from 0 to 1, got {smoothing}")
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        """Returns float ``(batch,)`` for labels ``(batch,)`` and logits ``(batch, classes)``."""
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        at_label = keras.losses.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
        everywhere = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1 - self.smoothing) * at_label + self.smoothing * everywhere

    def get_config(self):
        return super().get_config() | {"smoothing": self.smoothing}

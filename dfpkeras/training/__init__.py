"""What a recipe trains with: optimizer, schedule, loss and metrics.

Importing this package makes its classes known to ``keras.models.load_model``.
"""

from dfpkeras.training.loss import SmoothedCrossEntropy
from dfpkeras.training.optimizer import SGD
from dfpkeras.training.schedule import LinearWarmUp, make_schedule
from dfpkeras.training.setup import (
    compile_model,
    labels_for_every_output,
    metric_name,
    steps_per_epoch,
)

__all__ = [
    "SGD",
    "LinearWarmUp",
    "SmoothedCrossEntropy",
    "compile_model",
    "labels_for_every_output",
    "make_schedule",
    "metric_name",
    "steps_per_epoch",
]

"""What a recipe trains with: optimizer, schedule, loss and metrics.

Importing this package registers its classes for ``keras.models.load_model``.
"""

from dfpkeras.integration.installation import require_keras

require_keras(__name__)

from dfpkeras.training.loss import SmoothedCrossEntropy  # noqa: E402
from dfpkeras.training.optimizer import SGD  # noqa: E402
from dfpkeras.training.schedule import LinearWarmUp, make_schedule  # noqa: E402
from dfpkeras.training.setup import (  # noqa: E402
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

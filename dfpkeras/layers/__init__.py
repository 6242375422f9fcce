"""Some of Keras' layers on integers whatever the global policy, and one that Keras lacks."""

from dfpkeras.integration.installation import require_keras

require_keras(__name__)

from dfpkeras.layers.explicit import Conv1D, Conv2D, Dense  # noqa: E402
from dfpkeras.layers.local_response_normalization import LocalResponseNormalization  # noqa: E402

__all__ = ["Conv1D", "Conv2D", "Dense", "LocalResponseNormalization"]

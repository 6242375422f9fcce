"""Layers: some of Keras on integers whatever the global policy is, and one that Keras lacks."""

from dfpkeras.layers.explicit import Conv1D, Conv2D, Dense
from dfpkeras.layers.local_response_normalization import LocalResponseNormalization

__all__ = ["Conv1D", "Conv2D", "Dense", "LocalResponseNormalization"]

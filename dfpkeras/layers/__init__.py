"""Keras layers that compute on integers whatever the global dtype policy is."""

from dfpkeras.layers.explicit import Conv1D, Conv2D, Dense

__all__ = ["Conv1D", "Conv2D", "Dense"]

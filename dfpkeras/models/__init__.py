"""Models to train: a small ResNet, and those of keras.applications by name."""

from dfpkeras.models.resnet_small import resnet_small
from dfpkeras.models.resolve import build_model, model_names, scales_its_input

__all__ = ["build_model", "model_names", "resnet_small", "scales_its_input"]

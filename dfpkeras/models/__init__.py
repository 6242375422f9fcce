"""Models to train: their constructors, and finding them and those of keras.applications by name."""

from dfpkeras.models.alexnet import AlexNet
from dfpkeras.models.functions import find_function
from dfpkeras.models.googlenet import GoogLeNet
from dfpkeras.models.resnet20 import ResNet20
from dfpkeras.models.resnet50 import ResNet50
from dfpkeras.models.resnet_small import resnet_small
from dfpkeras.models.resolve import build_model, find_name, model_names, scales_its_input
from dfpkeras.models.vgg16 import VGG16

__all__ = [
    "VGG16",
    "AlexNet",
    "GoogLeNet",
    "ResNet20",
    "ResNet50",
    "build_model",
    "find_function",
    "find_name",
    "model_names",
    "resnet_small",
    "scales_its_input",
]

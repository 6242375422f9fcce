"""Models to train: their constructors, and a lookup by name that includes keras.applications."""

from dfpkeras.integration.installation import require_keras

require_keras(__name__)

from dfpkeras.models.alexnet import AlexNet  # noqa: E402
from dfpkeras.models.functions import find_function  # noqa: E402
from dfpkeras.models.googlenet import GoogLeNet  # noqa: E402
from dfpkeras.models.resnet20 import ResNet20  # noqa: E402
from dfpkeras.models.resnet50 import ResNet50  # noqa: E402
from dfpkeras.models.resnet_small import resnet_small  # noqa: E402
from dfpkeras.models.resolve import build_model, find_name, model_names, scales_its_input  # noqa: E402
from dfpkeras.models.vgg16 import VGG16  # noqa: E402

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

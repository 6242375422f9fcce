"""Signal-to-noise ratio of every layer's quantised operands, in trained networks."""

import sys
from pathlib import Path

import keras
import pandas as pd

import dfpkeras
from dfpkeras.cli.run_directory import RunDirectory
from dfpkeras.data.tfrecords import ImageRecords

sys.path.append(str(Path(__file__).parent.parent / "bit_budget"))

from bit_budget_capture import layer_tensors
from bit_budget_noise import operand_snr

_BATCH_SIZE = 64
#: The arrays of `LayerTensors`, their roles, and the attribute of `NumberFormat` with their bits.
_OPERANDS = (
    ("x", "activations", "activation_bits"),
    ("w", "weights", "weight_bits"),
    ("dy", "gradients", "gradient_bits"),
)


def measure_noise(run, work):
    """Measures a finished float32 run's network on one batch of its training images.

    Args:
        run: `parity_study.Run` under float32 that still has its last checkpoint.
        work: directory of the study.

    Returns:
        `pandas.DataFrame` with a row for each layer and role: "network", "layer", "role", "bits",
        "decibels". The signal is the float32 tensor; it is rounded to nearest in the default
        number format.
    """
    directory = RunDirectory(work / "runs" / run.directory_name)
    config, _ = directory.read_config()
    checkpoint = sorted(directory.path.glob("checkpoints/*/*.keras"))[-1]
    model = keras.models.load_model(checkpoint, compile=False)
    records = ImageRecords(config.data, config.image_size, config.classes, config.preparation())
    images, labels = next(iter(records.train_batches(_BATCH_SIZE, config.seed, 0, 1)))
    number_format, rows = dfpkeras.DFP16Policy().number_format, []
    for layer in layer_tensors(model, images, labels):
        for array, role, field in _OPERANDS:
            bits = getattr(number_format, field)
            decibels = operand_snr(getattr(layer, array), bits)
            rows.append((run.name, layer.name, role, bits, decibels))
    return pd.DataFrame(rows, columns=["network", "layer", "role", "bits", "decibels"])

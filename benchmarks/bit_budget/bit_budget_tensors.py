"""The tensors of one layer as they were in training, and the files that hold them."""

import dataclasses
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class LayerTensors:
    """What a convolution or dense layer multiplied in one training step.

    A dense layer is held as a 1x1 convolution of images of one pixel.

    Attributes:
        name: str, name of the layer.
        x: float32 (batch, height, width, channels), the input.
        w: float32 (kernel height, kernel width, channels, filters).
        dy: float32 (batch, output height, output width, filters), the gradient of the loss with
            respect to the output.
        strides: int, for both axes.
        padding: "valid" or "same", as in TensorFlow.
        is_first: bool, whether the input is that of the network, so training needs no
            backward_data.
    """

    name: str
    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    strides: int
    padding: str
    is_first: bool = False

    @property
    def directions(self):
        """The directions that training computes."""
        return ("forward", *(() if self.is_first else ("backward_data",)), "backward_weights")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All layers of a network at one point of its training.

    Attributes:
        network: str.
        step: int, training steps taken.
        files: tuple of `Path`, one per layer.
    """

    network: str
    step: int
    files: tuple

    def layers(self):
        """Yields the `LayerTensors`, read one at a time."""
        return map(load_layer, self.files)


def save_layer(layer, directory, index):
    """Writes a layer; ``index`` is its position in the network."""
    path = Path(directory) / f"{index:03d}_{layer.name}.npz"
    np.savez(path, **dataclasses.asdict(layer))


def load_layer(path):
    """Reads what `save_layer` wrote."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file}
    for key in ("name", "strides", "padding", "is_first"):
        arrays[key] = arrays[key].item()
    return LayerTensors(**arrays)


def snapshot_directory(work, network, step):
    """Where the layers of a snapshot are."""
    return Path(work) / network / f"step{step:06d}"


def find_snapshots(work):
    """Returns every `Snapshot` below a directory, by network and step.

    Raises:
        FileNotFoundError: there is none.
    """
    directories = sorted(path for path in Path(work).glob("*/step*") if path.is_dir())
    if not directories:
        raise FileNotFoundError(f"{work}: no captured tensors; run `bit_budget.py capture` first")
    return [
        Snapshot(path.parent.name, int(path.name[4:]), tuple(sorted(path.glob("*.npz"))))
        for path in directories
    ]


def last_snapshots(snapshots):
    """Returns the latest snapshot of each network."""
    return list({snapshot.network: snapshot for snapshot in snapshots}.values())

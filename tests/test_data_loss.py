"""Images that are lost, cut, skipped or turned: all of it is reported."""

import codecs
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from image_folders import SYNSETS, encode, picture, write_folders
from image_records import example, photographs, write_directory, write_records
from PIL import ExifTags, Image

from dfpkeras.cli.main import main
from dfpkeras.data import folder_entries
from dfpkeras.data.check import check_directory
from dfpkeras.data.class_folders import find_images
from dfpkeras.data.convert import Conversion
from dfpkeras.data.dataset import DataError
from dfpkeras.data.tfrecords import ImageRecords


def convert(images, out, capsys=None):
    arguments = ["--images", str(images), "--out", str(out), "--shards", "4"]
    code = main(["data", "convert", *arguments, "--validation-shards", "2"])
    return (code, capsys.readouterr()) if capsys else code


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """24 training images in four shards, six to test on in two."""
    parent = tmp_path_factory.mktemp("loss")
    write_folders(parent / "images", images_per_class=8)
    assert convert(parent / "images", parent / "out") == 0
    return parent / "out"


@pytest.fixture
def directory(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "out")
    return tmp_path / "out"


# Shards and records. A function changes the directory and returns what must be named.


def records_of(path):
    """The framed records of a file, as bytes."""
    content, records = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little") + 16
        records.append(content[:size])
        content = content[size:]
    return records


def remove(directory):
    (directory / "train-00002-of-00004").unlink()
    return "train-00002-of-00004: missing"


def remove_validation(directory):
    (directory / "validation-00001-of-00002").unlink()
    return "validation-00001-of-00002: missing"


def empty(directory):
    (directory / "train-00001-of-00004").write_bytes(b"")
    return "train-00001-of-00004: 0 bytes, but "


def replace_by_another(directory):
    shutil.copy(directory / "train-00000-of-00004", directory / "train-00003-of-00004")
    return "train-00003-of-00004: "


def rename(directory):
    (directory / "train-00000-of-00004").rename(directory / "train-00007-of-00004")
    return "train-00000-of-00004: missing"


def add(directory):
    shutil.copy(directory / "train-00000-of-00004", directory / "train-00000-of-00005")
    return "train-00000-of-00005: not one of the files that were converted"


def lose_the_last_record(directory):
    path = directory / "train-00002-of-00004"
    path.write_bytes(b"".join(records_of(path)[:-1]))
    return "train-00002-of-00004: "


def merge_records(directory):
    """As many bytes, in fewer records."""
    path = directory / "train-00002-of-00004"
    *rest, last = records_of(path)
    size = len(rest[-1]) + len(last) - 16
    rest[-1] = size.to_bytes(8, "little") + rest[-1][8:] + last
    path.write_bytes(b"".join(rest))
    return "train-00002-of-00004: 5 records, but 6 were converted"


LOSSES = [
    remove, remove_validation, empty, replace_by_another, rename, add, lose_the_last_record,
    merge_records,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOSSES)
def test_what_a_conversion_wrote_is_there(directory, lose, capsys):
    named = lose(directory)
    with pytest.raises(DataError, match=named):
        ImageRecords(directory, 16, 4)
    faults = [fault for report in check_directory(directory, 4, 1) for fault in report.faults]
    assert any(named in fault for fault in faults)
    assert main(["data", "check", str(directory)]) == 2
    assert named in capsys.readouterr().out
    runs = str(directory.parent / "runs")
    assert main(["train", "--runs-dir", runs, "--data", str(directory)]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("lose", [remove, remove_validation, rename])
def test_without_a_manifest_the_names_tell(directory, lose):
    (directory / "conversion.json").unlink()
    named = lose(directory)
    # A file with a wrong name is reported first.
    file = "train-00007-of-00004" if lose is rename else named.split(":")[0]
    with pytest.raises(DataError, match=file):
        ImageRecords(directory, 16, 4)


def test_an_unfinished_conversion_is_not_trained_on(directory):
    path = directory / "conversion.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    with pytest.raises(DataError, match="the conversion is not finished"):
        ImageRecords(directory, 16, 4)


def test_two_conversions_into_one_directory(tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    write_folders(images)
    sources = find_images(images)
    with Conversion(sources, out, {"train": 4, "validation": 2}, 0) as first:
        code, printed = convert(images, out, capsys)
        assert (code, printed.out) == (2, "")
        assert f"{out}: another conversion is writing to it" in printed.err
        first.run(1)
    assert convert(images, out) == 0


# JPEGs that are cut and closed again


def cut_and_closed(jpeg, part=0.6):
    """A truncated file from a memory card or download that a repair tool has ended with FFD9."""
    return jpeg[: int(part * len(jpeg))] + b"\xff\xd9"


@pytest.fixture(scope="module")
def photograph():
    return photographs()[0]


def test_cut_jpegs_are_left_out_of_a_conversion_by_name(tmp_path, photograph, capfd):
    images, out = tmp_path / "images", tmp_path / "out"
    write_folders(images)
    for part in (0.2, 0.6, 0.95):
        name = images / "train" / "n01" / f"cut {part}.JPEG"
        name.write_bytes(cut_and_closed(photograph, part))
    (images / "train" / "n01" / "whole.JPEG").write_bytes(photograph)
    assert convert(images, out) == 0
    printed = capfd.readouterr()
    assert "Broken and left out: 3" in printed.out
    assert "Corrupt JPEG" not in printed.err
    listed = (out / "broken.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [
        f"train/n01/cut {part}.JPEG" for part in (0.2, 0.6, 0.95)
    ]
    assert all("truncated or damaged JPEG (" in line for line in listed)


def test_cut_jpegs_in_records_are_named_by_the_check(tmp_path, photograph):
    jpegs = [photograph, cut_and_closed(photograph), photograph]
    for split in ("train", "validation"):
        write_records(tmp_path / f"{split}-00000-of-00001", [example(jpeg, 1) for jpeg in jpegs])
    for report in check_directory(tmp_path, 1, 1):
        (fault,) = report.faults
        assert "-00000-of-00001: record 1 (counting from 0): image/encoded: truncated or" in fault


# Validation lists


@pytest.fixture
def flat(tmp_path):
    """Images in a flat validation folder, and their classes by name."""
    write_folders(tmp_path / "images")
    folder, classes = tmp_path / "images" / "validation", {}
    for path in sorted(folder.glob("*/*")):
        classes[path.name] = path.parent.name
        path.rename(folder / path.name)
    for synset in SYNSETS:
        (folder / synset).rmdir()
    return tmp_path / "images", classes


FORMS = {
    "byte-order mark": lambda lines: codecs.BOM_UTF8 + "\n".join(lines).encode(),
    "UTF-16": lambda lines: "\n".join(lines).encode("utf-16"),
    "Windows": lambda lines: codecs.BOM_UTF8 + "\r\n".join([*lines, ""]).encode(),
    "old Macs": lambda lines: "\r".join(lines).encode(),
    "entries twice": lambda lines: "\n".join([*lines, *lines[:2]]).encode(),
    "blank lines": lambda lines: "\n \n\t\n".join(["", *lines, ""]).encode(),
    "spaces around": lambda lines: "\n".join(f"  {line} \t" for line in lines).encode(),
}
NAMES = {
    "names": "{}",
    "folders": "validation/{}",
    "backslashes": ".\\images\\validation\\{}",
    "absolute": "/data/imagenet/val/{}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_lists_in_common_forms(flat, tmp_path, form, name):
    images, classes = flat
    lines = [f"{NAMES[name].format(file)} {synset}" for file, synset in classes.items()]
    path = tmp_path / "list.txt"
    path.write_bytes(FORMS[form](lines))
    found = find_images(images, path)
    labels = {os.path.basename(i.path): i.label for i in found.splits["validation"]}
    assert labels == {name: SYNSETS.index(synset) + 1 for name, synset in classes.items()}


@pytest.mark.parametrize("form", ["byte-order mark", "UTF-16", "Windows", "old Macs"])
def test_lists_of_classes_alone_and_synsets(flat, tmp_path, form):
    images, classes = flat
    lists, synsets = tmp_path / "list.txt", tmp_path / "synsets.txt"
    lists.write_bytes(FORMS[form]([str(SYNSETS.index(classes[name]) + 1) for name in classes]))
    synsets.write_bytes(FORMS[form](SYNSETS))
    found = find_images(images, lists, synsets)
    labels = [image.label for image in found.splits["validation"]]
    assert labels == [SYNSETS.index(classes[name]) + 1 for name in sorted(classes)]


def test_an_entry_twice_with_another_class_is_named(flat, tmp_path):
    images, classes = flat
    lines = [f"{file} {synset}" for file, synset in classes.items()]
    file, synset = next(iter(classes.items()))
    other = next(each for each in SYNSETS if each != synset)
    path = tmp_path / "list.txt"
    path.write_text("\n".join([*lines, f"{file} {other}"]))
    with pytest.raises(DataError, match=r"line 7: lists .* again, with another class"):
        find_images(images, path)


# What is skipped


def test_what_is_skipped_is_counted_and_named(tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    write_folders(images)
    folder = images / "train" / "n01"
    (folder / "gone.JPEG").symlink_to(tmp_path / "nowhere")
    (folder / "loop.JPEG").symlink_to(folder / "loop.JPEG")
    (folder / ".hidden.JPEG").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    os.mkfifo(folder / "pipe.JPEG")
    (folder / "inner").mkdir()
    (images / "train" / "stray.JPEG").write_bytes(encode(picture(1)))
    (images / "validation" / "Thumbs.db").write_bytes(b"")
    (folder / "linked.JPEG").symlink_to(next(folder.glob("* 0.JPEG")))
    expected = {
        folder_entries.DANGLING: ["train/n01/gone.JPEG", "train/n01/loop.JPEG"],
        folder_entries.HIDDEN: ["train/n01/.hidden.JPEG"],
        folder_entries.OTHER_SUFFIX: ["train/n01/notes.txt", "validation/Thumbs.db"],
        folder_entries.SPECIAL: ["train/n01/pipe.JPEG"],
        folder_entries.NESTED: ["train/n01/inner"],
        folder_entries.OUTSIDE: ["train/stray.JPEG"],
    }
    assert find_images(images).skipped == expected
    code, printed = convert(images, out, capsys)
    assert code == 0
    for kind, paths in expected.items():
        assert f"Skipped, {kind}: {len(paths)} ({', '.join(paths)})" in printed.out
    listed = (out / "skipped.txt").read_text().splitlines()
    assert len(listed) == sum(map(len, expected.values()))
    assert f"{out / 'skipped.txt'}" in printed.out
    assert len(find_images(images).splits["train"]) == 13


# EXIF


def rotated_photograph(photograph, orientation):
    """The photograph as stored by a rotated camera; viewers turn it upright."""
    upright = Image.open(io.BytesIO(photograph))
    # What undoes each of EXIF's transformations.
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif.tobytes())
    return buffer.getvalue()


def test_photographs_are_turned_upright(tmp_path, photograph, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    for split in ("train", "validation"):
        (images / split / "n01").mkdir(parents=True)
    for name in ("a.JPEG", "b.JPEG"):
        (images / "validation" / "n01" / name).write_bytes(photograph)
    for orientation in range(1, 9):
        path = images / "train" / "n01" / f"{orientation}.JPEG"
        path.write_bytes(rotated_photograph(photograph, orientation))
    code, printed = convert(images, out, capsys)
    assert code == 0
    assert "turned upright as EXIF says: 7" in printed.out
    upright = np.asarray(Image.open(io.BytesIO(photograph)).convert("RGB"), float)
    found = tf.data.TFRecordDataset([str(path) for path in sorted(out.glob("train-*"))])
    for record in found.as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        pixels = tf.io.decode_jpeg(features["image/encoded"].bytes_list.value[0]).numpy()
        assert (pixels.shape[0], pixels.shape[1]) == upright.shape[:2]
        assert features["image/height"].int64_list.value[0] == pixels.shape[0]
        # Encoded twice at quality 95.
        assert np.mean(np.abs(pixels - upright)) < 4
    assert main(["data", "check", str(out)]) == 0
    assert "EXIF" not in capsys.readouterr().out


def test_the_check_counts_images_that_are_not_upright(tmp_path, photograph, capsys):
    write_directory(tmp_path, [photograph, *(rotated_photograph(photograph, k) for k in (3, 6, 8))])
    assert main(["data", "check", str(tmp_path), "--classes", "4"]) == 0
    assert "train: 3 images have an EXIF orientation" in capsys.readouterr().out

"""Class folders to TFRecords: which images, labels and features, in which order, and what happens
to bad files."""

import hashlib
import io
import json
import os
import resource
import shutil
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from image_folders import FILLED, SYNSETS, encode, picture, write_folders
from PIL import Image

from dfpkeras.cli.main import main
from dfpkeras.data.class_folders import find_images
from dfpkeras.data.convert import Conversion
from dfpkeras.data.dataset import DataError
from dfpkeras.data.tfrecords import ImageRecords


@pytest.fixture
def images(tmp_path):
    write_folders(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def convert(images, out, train=3, validation=1, seed=0, workers=2):
    sources, num_shards = find_images(images), {"train": train, "validation": validation}
    with Conversion(sources, out, num_shards, seed) as conversion:
        conversion.run(workers)
    return conversion


def read(paths):
    """Returns the features of all records as dicts."""
    records = []
    for record in tf.data.TFRecordDataset([str(path) for path in paths]).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        records.append(
            {name: (f.bytes_list.value or f.int64_list.value)[0] for name, f in features.items()}
        )
    return records


def files_of(out):
    """Returns the digests of the TFRecords by name."""
    paths = [*out.glob("train-*"), *out.glob("validation-*")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# What is written


def test_features_are_those_of_the_files(images, out):
    convert(images, out)
    assert sorted(files_of(out)) == [
        *(f"train-{i:05d}-of-00003" for i in range(3)),
        "validation-00000-of-00001",
    ]
    records = read(sorted(out.glob("train-*")))
    by_name = {os.fsdecode(record["image/filename"]): record for record in records}
    paths = {path.name: path for path in images.glob("train/*/*")}
    assert by_name.keys() == paths.keys()
    for name, path in paths.items():
        record = by_name[name]
        width, height = Image.open(path).size
        assert record == {
            "image/encoded": path.read_bytes(),
            "image/height": height,
            "image/width": width,
            "image/class/label": SYNSETS.index(path.parent.name) + 1,
            "image/class/synset": path.parent.name.encode(),
            "image/filename": name.encode(),
        }


def test_labels_count_the_sorted_synsets_also_the_empty_one(images, out):
    conversion = convert(images, out)
    assert (out / "labels.txt").read_text().splitlines() == list(SYNSETS)
    counts = Counter(record["image/class/label"] for record in read(out.glob("validation-*")))
    assert counts == {1: 2, 2: 2, 4: 2}
    assert (conversion.num_records("train"), conversion.num_records("validation")) == (12, 6)
    assert find_images(images).empty_classes("train") == ["n03"]


@pytest.mark.slow
def test_training_reads_what_was_converted(images, out):
    convert(images, out)
    data = ImageRecords(out, 16, num_classes=4)
    labels = [int(x) for _, batch in data.train_batches(5, 0, 0, 1) for x in batch]
    assert sorted(labels) == [0] * 4 + [1] * 4 + [3] * 4


def test_upper_and_lower_case_names_are_images_and_others_are_not(images, out):
    folder = images / "train" / "n03"
    for name in ("a.jpg", "b.JPG", "c.jpeg", "d.Jpeg"):
        (folder / name).write_bytes(encode(picture(1)))
    for name in ("e.txt", "f.png"):
        (folder / name).write_bytes(b"ignored")
    sources = find_images(images)
    assert len(sources.splits["train"]) == 16
    assert sources.skipped == {
        "names that do not end in .JPEG or .jpg": ["train/n03/e.txt", "train/n03/f.png"]
    }
    assert sources.empty_classes("train") == []


# The order


def test_content_does_not_depend_on_the_number_of_workers(images, tmp_path):
    for workers in (1, 4):
        convert(images, tmp_path / f"out{workers}", workers=workers)
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out4")


def test_images_are_shuffled_across_shards_as_the_seed_says(tmp_path):
    write_folders(tmp_path / "images", images_per_class=20)
    orders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        convert(tmp_path / "images", tmp_path / name, train=4, seed=seed)
        records = read(sorted((tmp_path / name).glob("train-*")))
        orders[name] = [record["image/width"] for record in records]
    assert orders["a"] == orders["b"]
    assert orders["a"] != orders["c"]
    assert sorted(orders["a"]) == list(range(20, 80))
    for order in (orders["a"], orders["c"]):
        assert abs(np.corrcoef(order, np.arange(60))[0, 1]) < 0.4
        classes = np.array(order) % len(FILLED)
        assert all(len(set(part)) == len(FILLED) for part in np.split(classes, 4))


def test_features_are_in_an_order_that_is_the_same_in_every_process(images, out):
    convert(images, out)
    for record in tf.data.TFRecordDataset(str(out / "train-00000-of-00003")).as_numpy_iterator():
        example = tf.train.Example.FromString(record)
        assert record == example.SerializeToString(deterministic=True)


def test_shards_differ_by_one_image_at_most(images, out):
    convert(images, out, train=5)
    sizes = [len(read([path])) for path in sorted(out.glob("train-*"))]
    assert sorted(sizes) == [2, 2, 2, 3, 3]


# Bad files


def ycck(image):
    """Returns a JPEG of four components with Adobe's marker, as Photoshop writes them."""
    return encode(image.convert("CMYK"))


def test_other_colours_and_formats_are_encoded_anew_and_counted(images, out):
    folder = images / "train" / "n03"
    original = picture(5, size=(40, 30))
    (folder / "cmyk.JPEG").write_bytes(ycck(original))
    (folder / "png.JPEG").write_bytes(encode(original, "PNG"))
    (folder / "palette.JPEG").write_bytes(encode(original.convert("P"), "PNG"))
    (folder / "transparent.JPEG").write_bytes(encode(original.convert("RGBA"), "PNG"))
    (folder / "grey.JPEG").write_bytes(encode(original.convert("L")))
    conversion = convert(images, out)
    assert conversion.repaired() == {"CMYK": 1, "other format": 3}
    assert conversion.broken() == []
    records = {r["image/filename"].decode(): r for r in read(out.glob("train-*"))}
    for name, tolerance in (("cmyk", 12), ("png", 6), ("transparent", 6), ("palette", 40)):
        record = records[f"{name}.JPEG"]
        image = Image.open(io.BytesIO(record["image/encoded"]))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (40, 30))
        assert (record["image/width"], record["image/height"]) == (40, 30)
        difference = np.asarray(image).astype(int) - np.asarray(original)
        assert np.abs(difference).mean() < tolerance
    assert records["grey.JPEG"]["image/encoded"] == (folder / "grey.JPEG").read_bytes()


def deep_png():
    pixels = np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13
    return encode(Image.fromarray(pixels), "PNG")


DEEP_PNG = deep_png()
# "I" to Pillow 10, "I;16" to newer ones.
DEEP_MODE = Image.open(io.BytesIO(DEEP_PNG)).mode
JPEG = encode(picture(3, size=(200, 150)))
BROKEN = {
    "half": (JPEG[: len(JPEG) // 2], "truncated or damaged JPEG"),
    "nearly whole": (JPEG[:-30], "truncated or damaged JPEG"),
    "header": (JPEG[:10], "truncated or damaged JPEG"),
    "cmyk": (ycck(picture(3, size=(200, 150)))[:-900], "truncated or damaged JPEG"),
    "png": (encode(picture(3, size=(99, 99)), "PNG")[:-900], "damaged image"),
    "deep png": (DEEP_PNG, f"PNG of mode {DEEP_MODE}, which is not supported"),
    "empty": (b"", "empty file"),
    "text": (b"<html>404 not found</html>", "not an image"),
}


def test_broken_files_are_left_out_and_listed(images, out):
    for name, (content, _) in BROKEN.items():
        (images / "train" / "n01" / f"{name} ü.JPEG").write_bytes(content)
    (images / "train" / "n01" / "directory.JPEG").mkdir()
    (images / "train" / "n01" / "dangling.JPEG").symlink_to("nowhere")
    conversion = convert(images, out)
    assert conversion.num_records("train") == 12
    assert len(read(out.glob("train-*"))) == 12
    reasons = dict(conversion.broken())
    assert len(reasons) == len(BROKEN)
    for name, (_, reason) in BROKEN.items():
        assert reason.split(" (")[0] in reasons[f"train/n01/{name} ü.JPEG"]
    listed = [line.split("\t") for line in (out / "broken.txt").read_text().splitlines()]
    assert [tuple(pair) for pair in listed] == conversion.broken()


def test_names_need_not_be_utf8(images, out):
    name = os.fsdecode(b"\xe9t\xe9.JPEG")
    (images / "train" / "n03" / name).write_bytes(encode(picture(1)))
    broken = os.fsdecode(b"\xff.JPEG")
    (images / "train" / "n03" / broken).write_bytes(b"")
    convert(images, out)
    assert b"\xe9t\xe9.JPEG" in [r["image/filename"] for r in read(out.glob("train-*"))]
    assert (out / "broken.txt").read_bytes() == b"train/n03/\xff.JPEG\tempty file\n"
    assert convert(images, out).broken() == [(f"train/n03/{broken}", "empty file")]


# Interrupted conversions


def test_finished_shards_are_kept_and_the_others_are_written(images, out, tmp_path):
    convert(images, tmp_path / "whole", train=6)

    def interrupt(done):
        if json.loads((out / "conversion.json").read_text())["shards"]:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Conversion(find_images(images), out, {"train": 6, "validation": 1}) as conversion,
    ):
        conversion.run(1, interrupt)
    with pytest.raises(DataError, match="not finished; run dfpkeras data convert again"):
        ImageRecords(out, 16, 4)
    finished = json.loads((out / "conversion.json").read_text())["shards"].keys()
    assert set() < set(finished) <= {path.name for path in (tmp_path / "whole").iterdir()}
    times = {name: (out / name).stat().st_mtime_ns for name in finished}
    (out / ".partial-train-00005-of-00006").write_bytes(b"half a shard")
    resumed = convert(images, out, train=6)
    in_validation = "validation-00000-of-00001" in finished
    assert resumed.num_kept == 2 * (len(finished) - in_validation) + 6 * in_validation
    assert times == {name: (out / name).stat().st_mtime_ns for name in finished}
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not list(out.glob(".partial*"))
    assert ImageRecords(out, 16, 4).num_train == 12


def test_a_shard_that_vanished_or_shrank_is_written_again(images, out):
    (images / "train" / "n01" / "broken.JPEG").write_bytes(b"")
    convert(images, out)
    before = files_of(out)
    (out / "train-00000-of-00003").unlink()
    with open(out / "train-00002-of-00003", "r+b") as file:
        file.truncate(100)
    conversion = convert(images, out)
    assert conversion.num_kept == 4 + 6 or conversion.num_kept == 5 + 6
    assert files_of(out) == before
    assert [path for path, _ in conversion.broken()] == ["train/n01/broken.JPEG"]


def add_an_image(images):
    (images / "train" / "n01" / "new.JPEG").write_bytes(encode(picture(9)))


def change_an_image(images):
    path = min((images / "train" / "n01").iterdir())
    path.write_bytes(path.read_bytes() + b"\0")


def add_a_class(images):
    (images / "train" / "n00").mkdir()


CHANGES = {
    "image added": (add_an_image, {}, "training images 12, got 13"),
    "image changed": (change_an_image, {}, "digest of the images' names, labels and sizes"),
    "class added": (add_a_class, {}, "classes 4, got 5"),
    "seed": (lambda images: None, {"seed": 1}, "seed 0, got 1"),
    "shards": (lambda images: None, {"train": 4}, "training shards 3, got 4"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_other_images_or_options_are_refused(images, out, kind):
    change, options, message = CHANGES[kind]
    convert(images, out)
    before = files_of(out)
    change(images)
    with pytest.raises(DataError, match=message):
        convert(images, out, **options)
    assert files_of(out) == before
    ImageRecords(out, 16, 4)


def test_records_of_other_programs_are_not_touched(images, out):
    out.mkdir()
    (out / "train-00000-of-00001").write_bytes(b"precious")
    with pytest.raises(DataError, match=r"holds files train-\*, but no conversion.json"):
        convert(images, out)
    assert (out / "train-00000-of-00001").read_bytes() == b"precious"


def test_a_full_disk_leaves_no_half_shard(tmp_path, out):
    paths = write_folders(tmp_path / "images")
    for path in paths[:12]:
        path.write_bytes(encode(picture(1, size=(400, 300))))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"train-00000-of-00001: cannot be written: .*large"):
            convert(tmp_path / "images", out, train=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(out.glob("*train-*"))
    convert(tmp_path / "images", out, train=1)
    assert len(read(out.glob("train-*"))) == 12


# Folders and lists


def flatten_validation(images):
    """Moves the validation images out of their folders; returns their synsets by name."""
    flat = {}
    folder = images / "validation"
    for path in sorted(folder.glob("*/*")):
        flat[path.name] = path.parent.name
        path.rename(folder / path.name)
    for synset in SYNSETS:
        (folder / synset).rmdir()
    folder.rename(images / "val")
    return flat


def numbers_of(flat):
    """Numbers that do not follow the sorted synsets: 1 is the last one."""
    return [str(len(SYNSETS) - SYNSETS.index(flat[name])) for name in sorted(flat)]


LISTS = {
    "files and synsets": lambda flat: [f"{k} {v}" for k, v in reversed(flat.items())],
    "files and synsets, tabs": lambda flat: [f"{k}\t{v}" for k, v in flat.items()],
    "files and numbers": lambda flat: [
        f"val/{k} {n}" for k, n in zip(sorted(flat), numbers_of(flat), strict=True)
    ],
    "synsets": lambda flat: [flat[name] for name in sorted(flat)],
    "numbers": numbers_of,
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_a_flat_validation_folder(images, tmp_path, kind):
    flat = flatten_validation(images)
    (tmp_path / "list.txt").write_text("\n".join(LISTS[kind](flat)) + "\n\n")
    (tmp_path / "synsets.txt").write_text("\n".join(reversed(SYNSETS)))
    found = find_images(images, tmp_path / "list.txt", tmp_path / "synsets.txt")
    labels = {os.path.basename(i.path): i.label for i in found.splits["validation"]}
    assert labels == {name: SYNSETS.index(synset) + 1 for name, synset in flat.items()}


BAD_LISTS = {
    "none": (None, r"expected a list of their classes \(--validation-list\)"),
    "empty": ([], "does not list .* 0.JPEG"),
    "short": (["n01"] * 5, "5 lines, but .*val holds 6 images"),
    "unknown synset": (["n01"] * 5 + ["n05"], "line 6: train has no folder for class n05"),
    "number": (["1"] * 6, r"line 1: 1 is a number; expected .*--validation-synsets"),
    "columns exchanged": (["n01 n01 0.JPEG"], "line 1: train has no folder for class 0.JPEG"),
    "first synset unknown": (["n99"] * 6, "line 1: expected <file> <class>; got 'n99'"),
    "unlisted": (["n01 0.JPEG n01"], r"does not list n01 3.JPEG \(5 such\)"),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
def test_bad_lists_are_named(images, tmp_path, kind):
    flatten_validation(images)
    lines, message = BAD_LISTS[kind]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines or []))
    with pytest.raises(DataError, match=message):
        find_images(images, path if lines is not None else None)


def test_a_listed_file_that_is_missing_is_named(images, tmp_path):
    flat = flatten_validation(images)
    path = tmp_path / "list.txt"
    path.write_text("\n".join(f"{k} {v}" for k, v in [*flat.items(), ("lost.JPEG", "n01")]))
    with pytest.raises(DataError, match=r"lost.JPEG is missing, which .*list.txt lists"):
        find_images(images, path)


def test_numbers_out_of_range_are_named(images, tmp_path):
    flatten_validation(images)
    (tmp_path / "list.txt").write_text("1\n" * 5 + "0\n")
    (tmp_path / "synsets.txt").write_text("\n".join(SYNSETS))
    with pytest.raises(DataError, match=r"line 6: 0 is not in 1..4"):
        find_images(images, tmp_path / "list.txt", tmp_path / "synsets.txt")


def remove(*names):
    def change(images):
        for name in names:
            shutil.rmtree(images / name)

    return change


def add_validation_class(images):
    (images / "validation" / "n99").mkdir()


def empty_train(images):
    for path in images.glob("train/*/*"):
        path.unlink()


BAD_FOLDERS = {
    "nothing": (remove("train", "validation"), "no folder train"),
    "no validation": (remove("validation"), "no folder validation and val; expected one"),
    "two": (lambda images: (images / "val").mkdir(), "both folders validation and val"),
    "no classes": (remove(*(f"train/{synset}" for synset in SYNSETS)), "train: no folders in it"),
    "no images": (empty_train, r"train: no images \(\*.JPEG, \*.jpg\) in it"),
    "unknown class": (add_validation_class, "n99: train has no folder of that name"),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_folders_that_do_not_fit_are_named(images, kind):
    change, message = BAD_FOLDERS[kind]
    change(images)
    with pytest.raises(DataError, match=message):
        find_images(images)


def test_more_shards_than_images_are_refused(images, out):
    with pytest.raises(DataError, match="13 train shards for 12 images"):
        convert(images, out, train=13)
    assert not out.exists()


# The command


def test_the_command_converts_and_reports(images, out, capsys):
    (images / "train" / "n01" / "bad.JPEG").write_bytes(b"no image")
    (images / "train" / "n01" / "png.JPEG").write_bytes(encode(picture(1), "PNG"))
    assert main(["data", "convert", "--images", str(images), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Re-encoded as RGB JPEG, other format: 1" in printed
    assert "Broken and left out: 1" in printed
    assert "train/n01/bad.JPEG: not an image" in printed
    assert sorted(files_of(out)) == ["train-00000-of-00001", "validation-00000-of-00001"]
    assert len(read(out.glob("train-*"))) == 13


def test_the_command_reports_errors_in_one_line(images, out, capsys):
    assert main(["data", "convert", "--images", str(images / "train"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("dfpkeras data: error: ")

"""``dfpkeras data check``: each kind of fault is found and named, and good files have none."""

import re

import pytest
from image_folders import write_folders
from image_records import example, photographs, thumbnails, write_directory, write_records

from dfpkeras.cli.main import main
from dfpkeras.data.check import check_directory
from dfpkeras.data.class_folders import find_images
from dfpkeras.data.convert import Conversion
from dfpkeras.data.dataset import DataError


@pytest.fixture(scope="module")
def jpegs():
    return thumbnails()


@pytest.fixture
def directory(tmp_path, jpegs):
    """Labels 1 to 20 in train, k in the file (k - 1) % 3; 1 to 4 in validation."""
    write_directory(tmp_path, jpegs)
    return tmp_path


def faults_of(directory, num_classes=20):
    """Returns the faults of the training files; the others must have none."""
    train, validation = check_directory(directory, num_classes, workers=2)
    assert validation.faults == []
    return train.faults


def test_good_files_are_described(tmp_path, jpegs):
    write_directory(tmp_path, [*jpegs[:5], photographs()[10]], labels=[3, 3, 3, 7, 7, 9])
    sizes = []
    train, validation = check_directory(tmp_path, 10, 2, sizes.append)
    assert (train.name, train.num_files, train.num_records) == ("train", 3, 6)
    assert train.class_counts == {3: 3, 7: 2, 9: 1}
    assert train.missing_labels(10) == [1, 2, 4, 5, 6, 8, 10]
    assert (train.heights, train.widths) == ((48, 683), (48, 1024))
    assert train.faults == []
    assert (validation.num_files, validation.num_records) == (2, 4)
    assert validation.class_counts == {3: 3, 7: 1}
    assert len(sizes) == 10
    assert max(sizes) > len(photographs()[10])


BAD_RECORDS = {
    "truncated": (
        lambda jpeg: example(jpeg[:-9], 1),
        "image/encoded: truncated or damaged JPEG (Premature end",
    ),
    "png": (lambda jpeg: example(b"\x89PNG", 1), "image/encoded is not a JPEG"),
    "no image": (lambda jpeg: example(label=1), "feature image/encoded (one JPEG) is missing"),
    "no label": (lambda jpeg: example(jpeg), "feature image/class/label (one integer) is missing"),
    "label 0": (lambda jpeg: example(jpeg, 0), "label is 0, but must be from 1 to 20"),
    "label 21": (lambda jpeg: example(jpeg, 21), "label is 21, but must be from 1 to 20"),
    "junk": (lambda jpeg: b"\x0ajunk", "not a tf.train.Example"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_every_bad_record_is_named(directory, jpegs, kind):
    make, problem = BAD_RECORDS[kind]
    path = directory / "train-00001-of-00003"
    bad, good = make(jpegs[0]), example(jpegs[1], 2)
    write_records(path, [bad, good, bad, good])
    train, _ = check_directory(directory, 20, workers=2)
    assert len(train.faults) == 2
    for fault, number in zip(train.faults, (0, 2), strict=True):
        assert fault.startswith(f"{path}: record {number} (counting from 0): ")
        assert problem in fault
    assert train.num_records == 13 + 2
    assert 0 not in train.class_counts and 21 not in train.class_counts


def test_damaged_bytes_are_named_and_what_was_not_read(directory):
    path = directory / "train-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    (fault,) = faults_of(directory)
    assert fault.startswith(f"{path}: record 3 (counting from 0): damaged")
    assert fault.endswith("the 3 records after it were not read")


@pytest.mark.parametrize("cut", [1, 8, 500])
def test_a_truncated_file_is_read_up_to_the_cut(directory, cut):
    path = directory / "train-00001-of-00003"
    path.write_bytes(path.read_bytes()[:-cut])
    train, _ = check_directory(directory, 20, workers=1)
    (fault,) = train.faults
    assert fault.startswith(f"{path}: record 6 (counting from 0): the file ends within")
    assert train.num_records == 19


def test_missing_files_are_named(directory):
    (directory / "train-00001-of-00003").unlink()
    assert faults_of(directory) == [f"{directory}/train-00001-of-00003: missing"]


def test_directories_without_data_are_errors(tmp_path, directory):
    with pytest.raises(DataError, match="no such directory"):
        check_directory(tmp_path / "nowhere", 20, 1)
    for path in directory.glob("validation-*"):
        path.unlink()
    with pytest.raises(DataError, match=r"no files validation-\*"):
        check_directory(directory, 20, 1)


# The command


def test_the_command_succeeds_on_what_was_converted(tmp_path, capsys):
    write_folders(tmp_path / "images")
    with Conversion(find_images(tmp_path / "images"), tmp_path / "out") as conversion:
        conversion.run(workers=1)
    assert main(["data", "check", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "3 of 4" in printed  # classes, going by labels.txt
    assert "train: no image has the label 3" in printed


def test_the_command_fails_and_prints_the_faults(directory, capsys):
    assert main(["data", "check", str(directory), "--classes", "2"]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("image/class/label is") == 18 + 2
    assert "20 faults" in printed.err
    assert main(["data", "check", str(directory), "--classes", "20"]) == 0


# The speed


@pytest.mark.slow
def test_the_speed_of_the_images_and_of_a_step_is_printed(directory, capsys):
    arguments = ["--image-size", "32", "--batch-size", "4", "--classes", "20", "--seconds", "0.1"]
    assert main(["data", "speed", str(directory), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "32x32 pixels, batches of 4" in printed
    assert "step" not in printed
    arguments += ["--model", "resnet-small"]
    assert main(["data", "speed", str(directory), *arguments]) == 0
    assert re.search(r"step of resnet-small, dfp16 .* \d", capsys.readouterr().out)


def test_the_speed_of_what_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["data", "speed", str(tmp_path)]) == 2
    assert "no files train-*" in capsys.readouterr().err

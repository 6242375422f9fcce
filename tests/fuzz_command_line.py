"""Damaged files and wrong values for every command: never a traceback, never a silent loss.

    python tests/fuzz_command_line.py --cases 1000 --seed 0

A case is a command, one to three damages to what it reads, and what it then does; it depends on its
number alone, so that ``--only 17`` repeats it. The cases that fail and a table of the exit codes
are printed. A case fails if

- the command ends with another code than 0 or 2, or with 2 without an error message;
- "Traceback" is printed, by any library;
- it ends with 0 although an image was lost that it does not name.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

import interrupted_runs
import tensorflow as tf
from image_folders import SYNSETS, write_folders

from dfpkeras.cli.main import main

SECONDS = 120
NUMBERS = ["0", "-1", "1", "3", "1e9", "nan", "inf", "", "many", "0.5", "2147483648", "٣", "\udcff"]


# Damages: functions of a path and a random generator.


def empty(path, rng):
    path.write_bytes(b"")


def cut(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def cut_and_close(path, rng):
    """A cut JPEG with a valid end."""
    cut(path, rng)
    path.write_bytes(path.read_bytes() + b"\xff\xd9")


def flip(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 8])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def append(path, rng):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice([1, 4, 16, 500])))


def replace_by_junk(path, rng):
    junk = [b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 50_000, b"a,b\n1,2\n", rng.randbytes(100)]
    path.write_bytes(rng.choice(junk))


def delete(path, rng):
    path.unlink()


def replace_by_folder(path, rng):
    path.unlink()
    path.mkdir()


def replace_by_link(path, rng):
    path.unlink()
    path.symlink_to(rng.choice([path, path.parent, path.parent / "nowhere"]))


def replace_by_pipe(path, rng):
    path.unlink()
    os.mkfifo(path)


def replace_by_neighbour(path, rng):
    files = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    if files:
        shutil.copy(rng.choice(files), path)


def rename(path, rng):
    path.rename(path.with_name(path.name.swapcase() if rng.random() < 0.5 else f"{path.name}0"))


def change_json_or_text(path, rng):
    """One value in a JSON file becomes one of another type; elsewhere a line becomes another."""
    values = [None, -1, 0, "x", [], {}, 1e400, True]
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        lines = path.read_bytes().split(b"\n")
        lines[rng.randrange(len(lines))] = rng.choice([b"x", b"epoch", b"1 2 3", b"\xff", b"[a]"])
        path.write_bytes(b"\n".join(lines))
        return
    parent = content
    while isinstance(parent, dict) and parent:
        key = rng.choice(sorted(parent))
        if not (isinstance(parent[key], dict) and parent[key] and rng.random() < 0.8):
            parent[key] = rng.choice(values)
            break
        parent = parent[key]
    path.write_text(json.dumps(content))


DAMAGES = [
    empty, cut, cut, cut_and_close, flip, flip, append, replace_by_junk, delete, replace_by_folder,
    replace_by_link, replace_by_pipe, replace_by_neighbour, rename, change_json_or_text,
    change_json_or_text,
]  # fmt: skip


# The input of commands


class Originals:
    """Images, what they were converted to, and a run on it; each case gets its own copies."""

    def __init__(self, directory):
        self.images, self.data = directory / "images", directory / "data"
        self.runs = directory / "runs"
        write_folders(self.images, images_per_class=8)
        convert = ["data", "convert", "--images", str(self.images), "--out", str(self.data)]
        assert main([*convert, "--shards", "4", "--validation-shards", "2"]) == 0
        train = ["train", "--runs-dir", str(self.runs), "--name", "x", "--data", str(self.data)]
        assert main([*train, "--epochs", "2", "--image-size", "16", "--batch-size", "8"]) == 0
        run = self.runs / "x" / "checkpoints" / "dfp16"
        (run / "epoch-0002.keras").unlink()
        self.records = records(self.data)


def records(directory):
    """Image, label and name of every readable record, sorted."""
    found = []
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.name.startswith(("train-", "validation-")):
            try:
                for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    found.append((path.name.split("-")[0], record))
            except tf.errors.OpError:
                continue
    return sorted(found)


def damage_some(rng, folder, pipes=True):
    """Damages one to three files below a folder; returns what was done.

    A pipe that the user names may be intended: the command waits for it.
    """
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        # A conversion.json is one of seven files, and much depends on it.
        files += [path for path in files if path.suffix in (".json", ".csv", ".keras")]
        if files:
            path, damage = rng.choice(files), rng.choice(DAMAGES)
            if damage is replace_by_pipe and not pipes:
                continue
            damage(path, rng)
            done.append(f"{damage.__name__} {path.relative_to(folder)}")
    return done


# Kinds of cases: functions of a generator, the originals and a folder of the case. They return the
# arguments, what was damaged, and a function that raises an AssertionError after exit code 0.


def check(rng, originals, folder):
    shutil.copytree(originals.data, folder / "data")
    done = damage_some(rng, folder / "data")

    def nothing_lost(printed):
        assert records(folder / "data") == originals.records

    return ["data", "check", str(folder / "data")], done, nothing_lost


def train(rng, originals, folder):
    shutil.copytree(originals.data, folder / "data")
    done = damage_some(rng, folder / "data")
    arguments = ["train", "--runs-dir", str(folder / "runs"), "--data", str(folder / "data")]

    def nothing_lost(printed):
        assert records(folder / "data") == originals.records

    return [*arguments, "--epochs", "1", "--image-size", "16"], done, nothing_lost


def resume(rng, originals, folder):
    shutil.copytree(originals.runs, folder / "runs")
    done = damage_some(rng, folder / "runs")

    def nothing_lost(printed):
        history = (folder / "runs" / "x" / "history.csv").read_text().splitlines()
        assert len(history) == 3 or "history.csv has no row of" in printed, history

    return ["train", "--runs-dir", str(folder / "runs"), "--resume"], done, nothing_lost


def convert(rng, originals, folder):
    images, out = folder / "images", folder / "out"
    shutil.copytree(originals.images, images)
    done = damage_some(rng, images)
    count = sum(not path.is_dir() or path.is_symlink() for path in images.rglob("*"))
    folders = sum(path.is_dir() and not path.is_symlink() for path in images.rglob("*.JPEG"))

    def nothing_lost(printed):
        listed = sum(
            len((out / name).read_text().splitlines())
            for name in ("broken.txt", "skipped.txt")
            if (out / name).exists()
        )
        # Links to folders within a class are folders as well.
        assert len(records(out)) + listed == count + folders, (len(records(out)), listed, count)
        assert not listed or "kipped" in printed or "left out" in printed

    return ["data", "convert", "--images", str(images), "--out", str(out)], done, nothing_lost


def convert_again(rng, originals, folder):
    shutil.copytree(originals.data, folder / "data")
    done = damage_some(rng, folder / "data")
    arguments = ["--shards", "4", "--validation-shards", "2", "--out", str(folder / "data")]

    def nothing_lost(printed):
        # Finished shards are recognised by their sizes; checksums are verified on reading.
        if not set(originals.records) <= set(records(folder / "data")):
            assert run(["data", "check", str(folder / "data")])[0] == 2

    return ["data", "convert", "--images", str(originals.images), *arguments], done, nothing_lost


def validation_list(rng, originals, folder):
    images, path = folder / "images", folder / "lists" / "list.txt"
    shutil.copytree(originals.images, images)
    path.parent.mkdir()
    lines = []
    for image in sorted((images / "validation").glob("*/*")):
        lines.append(f"{image.name} {image.parent.name}")
        image.rename(images / "validation" / image.name)
    for synset in SYNSETS:
        (images / "validation" / synset).rmdir()
    path.write_text("\n".join(lines))
    done = damage_some(rng, path.parent, pipes=False)
    arguments = ["--out", str(folder / "out"), "--validation-list", str(path)]

    def nothing_lost(printed):
        assert sum(split == "validation" for split, _ in records(folder / "out")) == 6

    return ["data", "convert", "--images", str(images), *arguments], done, nothing_lost


def recipe(rng, originals, folder):
    from dfpkeras import recipes

    path = folder / "recipe" / "mine.toml"
    path.parent.mkdir()
    shutil.copy(recipes.DIRECTORY / f"{rng.choice(recipes.recipe_names())}.toml", path)
    done = damage_some(rng, path.parent, pipes=False)
    arguments = ["--recipe", str(path), "--epochs", "1", "--steps-per-epoch", "1"]
    return ["train", "--runs-dir", str(folder / "runs"), *arguments], done, lambda printed: None


def options(rng, originals, folder):
    from dfpkeras.cli.config import SETTINGS

    arguments = ["train", "--runs-dir", str(folder), "--epochs", "1", "--steps-per-epoch", "1"]
    if rng.random() < 0.7:
        arguments += ["--data", str(originals.data), "--image-size", "16"]
    for name in rng.sample(sorted(set(SETTINGS) - {"policies", "data", "model"}), 2):
        count = rng.choice([1, 1, 2, 3])
        arguments += [f"--{name.replace('_', '-')}", *rng.choices(NUMBERS, k=count)]
    return arguments, [], lambda printed: None


def paths(rng, originals, folder):
    target = folder / "target"
    target.write_text("x")
    done = damage_some(rng, folder, pipes=False)
    arguments = rng.choice(
        [
            ["data", "check"], ["data", "speed"], ["bench", "--network", "x", "--json"],
            ["train", "--model", "x", "--runs-dir"], ["train", "--resume", "--runs-dir"],
            ["train", "--recipe"], ["data", "convert", "--out", str(folder / "o"), "--images"],
            ["data", "convert", "--images", str(originals.images), "--out"],
        ]
    )  # fmt: skip
    return [*arguments, str(target)], done, lambda printed: None


KINDS = [
    check, check, train, resume, resume, convert, convert, convert_again, validation_list, recipe,
    options, options, paths,
]  # fmt: skip
VARIABLES = ["DFPKERAS_NUM_THREADS", "DFPKERAS_MAX_ISA", "KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"]
PROCESSES = 0.03


# Running a case


def run_case(number, seed, originals, parent):
    """Returns the kind and the exit code; raises an AssertionError if the case fails."""
    rng = random.Random(f"{seed}-{number}")
    if rng.random() < PROCESSES:
        return "environment", run_in_process(rng)
    kind = rng.choice(KINDS)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        arguments, done, nothing_lost = kind(rng, originals, Path(folder))
        code, printed = run(arguments)
        try:
            check_output(code, printed)
            if code == 0:
                nothing_lost(printed)
        except AssertionError as error:
            raise AssertionError(
                f"{' '.join(arguments)}\n{done}\n{error}\n{printed[-3000:]}"
            ) from error
    return kind.__name__, code


def run_in_process(rng):
    """Environment variables count when a process begins."""
    variable, value = (
        rng.choice(VARIABLES),
        rng.choice([text for text in NUMBERS if text.isascii()]),
    )
    result = subprocess.run(
        [sys.executable, "-P", "-m", "dfpkeras_command", "info"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
    )
    try:
        check_output(result.returncode, result.stdout + result.stderr)
    except AssertionError as error:
        raise AssertionError(f"{variable}={value}: {result.stderr}") from error
    return result.returncode


def check_output(code, printed):
    assert code in (0, 2), f"exit code {code}"
    assert "Traceback" not in printed, "a traceback"
    if code == 2:
        assert printed.splitlines()[-1].startswith(("dfpkeras", "usage")), "no error message"


def run(arguments):
    """Runs the command in this process; returns its code and all that was printed."""
    with tempfile.TemporaryFile() as file:
        with captured(file):
            signal.signal(signal.SIGALRM, stop)
            signal.alarm(SECONDS)
            try:
                code = main(arguments)
            except SystemExit as end:
                code = end.code
            except BaseException:
                traceback.print_exc()
                code = None
            finally:
                signal.alarm(0)
        file.seek(0)
        return code, file.read().decode(errors="replace")


class Stopped(BaseException):
    """An exception that no command catches."""


def stop(number, frame):
    raise Stopped(f"not done after {SECONDS} s")


@contextmanager
def captured(file):
    """Captures also what libraries print without Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for stream, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, stream)
            os.close(descriptor)


def fuzz(numbers, seed, report=print):
    """Runs cases; returns the failed ones, and how often each kind ended with each code."""
    failed, codes = [], collections.Counter()
    with tempfile.TemporaryDirectory() as parent:
        originals = Originals(Path(parent))
        for number in numbers:
            try:
                codes[run_case(number, seed, originals, parent)] += 1
            except AssertionError as error:
                failed.append(number)
                report(f"case {number}: {error}\n")
    return failed, codes


def _main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one case to run")
    arguments = parser.parse_args()
    interrupted_runs.use_tiny_training()
    numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
    failed, codes = fuzz(numbers, arguments.seed)
    for kind in sorted({kind for kind, _ in codes}):
        print(f"{kind:16} ended with 0: {codes[kind, 0]:4}, with 2: {codes[kind, 2]:4}")
    print(f"{len(failed)} of {len(numbers)} cases failed: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    _main()

"""``conversion.json``: what a directory of TFRecords was, or is being, converted from."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from dfpkeras.data.dataset import DataError
from dfpkeras.data.shard import ShardResult
from dfpkeras.files import read_regular_file, write_atomically

NAME = "conversion.json"
LABELS_NAME = "labels.txt"
BROKEN_NAME = "broken.txt"
SKIPPED_NAME = "skipped.txt"
# Version of the conversion: 2 applies the orientation and leaves damaged images out.
VERSION = 2
_SHARDS = {"train": "training shards", "validation": "validation shards"}


class Manifest:
    """Which shards of a conversion are finished, kept in the file ``conversion.json``.

    A resumed conversion must have the same images and options as the one that began.

    Args:
        directory: where the shards are.
        plan: what decides the content of the shards, as ``make_plan`` returns it.

    Raises:
        DataError: the directory holds something else, or cannot be written to.
    """

    def __init__(self, directory, plan):
        self._path = Path(directory) / NAME
        self._plan = plan
        before = read_manifest(directory)
        if before:
            self._refuse_changes(before.plan)
        else:
            _refuse_other_files(Path(directory))
        self.results = before.shards if before else {}
        self._write(finished=bool(before) and before.finished)

    def is_finished(self, path):
        """Returns whether the shard has been written and is still there."""
        result = self.results.get(path.name)
        return result is not None and path.is_file() and path.stat().st_size == result.num_bytes

    def add(self, path, result):
        """Records that a shard is finished."""
        self.results[path.name] = result
        self._write(finished=False)

    def finish(self):
        """Records that all shards are finished."""
        self._write(finished=True)

    def _write(self, finished):
        shards = {name: dataclasses.asdict(self.results[name]) for name in sorted(self.results)}
        content = {"finished": finished, "plan": self._plan, "shards": shards}
        write_text(self._path, json.dumps(content, indent=1))

    def _refuse_changes(self, before):
        for key, now in self._plan.items():
            if before.get(key) != now:
                raise DataError(
                    f"{self._path.parent}: holds a conversion with {key} {before.get(key)}, got "
                    f"{now}; give the same images and options, or another directory"
                )


@dataclasses.dataclass(frozen=True)
class ManifestContent:
    """What ``conversion.json`` says.

    Attributes:
        finished: whether the conversion is complete.
        plan: as ``make_plan`` returns it.
        shards: dict of ``ShardResult`` by file name; of all shards if the conversion is complete.
    """

    finished: bool
    plan: dict
    shards: dict[str, ShardResult]


def make_plan(sources, num_shards, seed):
    """Returns what decides the content of the shards, as a dict that JSON can hold.

    Args:
        sources: ``SourceImages``.
        num_shards: dict of the number of shards of each split.
        seed: seed of the order.
    """
    digest = hashlib.sha256()
    for split, images in sources.splits.items():
        for image in images:
            digest.update(f"{split}\0{image}\n".encode(errors="surrogateescape"))
    return {
        "version": VERSION,
        "classes": len(sources.synsets),
        "training images": len(sources.splits["train"]),
        "validation images": len(sources.splits["validation"]),
        "training shards": num_shards["train"],
        "validation shards": num_shards["validation"],
        "seed": seed,
        "digest of the images' names, labels and sizes": digest.hexdigest(),
    }


def name_shard(split, number, total):
    """Returns the file name of a shard."""
    return f"{split}-{number:05d}-of-{total:05d}"


def read_manifest(directory):
    """Returns the ``ManifestContent`` of a directory, or None without ``conversion.json``.

    Raises:
        DataError: it cannot be read, or is not what a conversion writes.
    """
    path = Path(directory) / NAME
    try:
        return _parse(json.loads(read_regular_file(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    # Deep nesting is a RecursionError.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: is not, or no longer, what dfpkeras data convert writes; convert into "
            "another directory, or remove the file if the TFRecords come from elsewhere"
        ) from error


def _parse(content):
    """Raises one of several errors if the content is not that of a ``Manifest``."""
    plan = content["plan"]
    shards = {name: ShardResult(**fields) for name, fields in content["shards"].items()}
    _require(isinstance(content["finished"], bool))
    _require(all(_is_count(plan[key]) for key in ("classes", *_SHARDS.values())))
    for name, result in shards.items():
        split, number, total = re.fullmatch(r"(\w+)-(\d+)-of-(\d+)", name).groups()
        _require(int(total) == plan[_SHARDS[split]] and int(number) < int(total))
        _require(name == name_shard(split, int(number), int(total)))
        _require_types(result)
    if content["finished"]:
        _require(len(shards) == sum(plan[key] for key in _SHARDS.values()))
    return ManifestContent(content["finished"], plan, shards)


def _require_types(result):
    _require(_is_count(result.num_records) and _is_count(result.num_bytes))
    _require(all(_is_count(count) for count in result.repaired.values()))
    for pair in result.broken:
        _require(len(pair) == 2 and all(isinstance(text, str) for text in pair))


def _is_count(value):
    return type(value) is int and value >= 0


def _require(fulfilled):
    if not fulfilled:
        raise ValueError


def _refuse_other_files(directory):
    """Raises a ``DataError`` if there are files that a conversion would overwrite, or mix with."""
    for pattern in ("train-*", "validation-*", "*-train.tfrecord-*", "*-validation.tfrecord-*"):
        if any(directory.glob(pattern)):
            raise DataError(
                f"{directory}: already holds files {pattern}, but no {NAME}; give another directory"
            )
    for name in (LABELS_NAME, BROKEN_NAME, SKIPPED_NAME):
        if (directory / name).exists():
            raise DataError(
                f"{directory}: already holds {name}, but no {NAME}; give another directory"
            )


def require_finished(directory):
    """Returns the ``ManifestContent`` of a directory, or None if it was not converted.

    Raises:
        DataError: ``conversion.json`` is damaged, or the conversion is not complete.
    """
    manifest = read_manifest(directory)
    if manifest and not manifest.finished:
        raise DataError(
            f"{directory}: the conversion is not finished; run dfpkeras data convert again to "
            "continue it"
        )
    return manifest


def count_classes(directory):
    """Returns the number of classes of a conversion, or else of lines of labels.txt.

    None if neither is available. Errors are left to the code that reads the images.
    """
    try:
        manifest = read_manifest(directory)
        if manifest:
            return manifest.plan["classes"]
        return len(read_regular_file(Path(directory) / LABELS_NAME).splitlines()) or None
    except (OSError, DataError):
        return None


def write_text(path, text):
    """Writes a text file atomically; raises a ``DataError`` if it cannot."""

    def write(temporary):
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    write_atomically(path, write, DataError)

"""``conversion.json``: what a directory of TFRecords was, or is being, converted from."""

import dataclasses
import hashlib
import json
from pathlib import Path

from dfpkeras.data.dataset import DataError
from dfpkeras.data.shard import ShardResult
from dfpkeras.files import write_atomically

NAME = "conversion.json"
LABELS_NAME = "labels.txt"


class Manifest:
    """Which shards of a conversion are finished, kept in the file ``conversion.json``.

    A conversion that goes on must have the same images and options as the one that began.

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
            self._refuse_changes(before["plan"])
        elif any(Path(directory).glob("train-*")) or any(Path(directory).glob("validation-*")):
            raise DataError(
                f"{directory}: holds files train-* or validation-* already, but no {NAME}; "
                "give another directory"
            )
        shards = before["shards"] if before else {}
        self.results = {name: ShardResult(**fields) for name, fields in shards.items()}
        self._write(finished=bool(before) and before["finished"])

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
                    f"{self._path.parent}: holds a conversion with {key} {before.get(key)}, asked "
                    f"for is {now}; give the same images and options, or another directory"
                )


def make_plan(sources, num_shards, seed):
    """Returns what decides the content of the shards, as a dict that JSON can hold.

    Args:
        sources: ``SourceImages``.
        num_shards: of each split, a dict.
        seed: of the order.
    """
    digest = hashlib.sha256()
    for split, images in sources.splits.items():
        for image in images:
            digest.update(f"{split}\0{image}\n".encode(errors="surrogateescape"))
    return {
        "classes": len(sources.synsets),
        "training images": len(sources.splits["train"]),
        "validation images": len(sources.splits["validation"]),
        "training shards": num_shards["train"],
        "validation shards": num_shards["validation"],
        "seed": seed,
        "digest of the images' names, labels and sizes": digest.hexdigest(),
    }


def read_manifest(directory):
    """Returns the content of ``conversion.json``, or None if there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(directory) / NAME
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def require_finished(directory):
    """Raises a ``DataError`` if a conversion into the directory has not come to its end."""
    manifest = read_manifest(directory)
    if manifest and not manifest["finished"]:
        raise DataError(
            f"{directory}: the conversion is not finished; run dfpkeras data convert again, it "
            "goes on where it ended"
        )


def count_classes(directory):
    """Returns the number of lines of a conversion's labels.txt, or None without that file."""
    try:
        return len((Path(directory) / LABELS_NAME).read_bytes().splitlines())
    except OSError:
        return None


def write_text(path, text):
    """Writes a text file, which is whole or not there; raises a ``DataError`` if it cannot."""

    def write(temporary):
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    write_atomically(path, write, DataError)

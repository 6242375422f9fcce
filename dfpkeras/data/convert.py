"""Class folders to TFRecords."""

import concurrent.futures
import contextlib
import threading
import warnings
from pathlib import Path

import numpy as np

from dfpkeras.data.dataset import DataError
from dfpkeras.data.layout import SPLITS
from dfpkeras.data.manifest import (
    BROKEN_NAME,
    LABELS_NAME,
    SKIPPED_NAME,
    Manifest,
    make_plan,
    name_shard,
    write_text,
)
from dfpkeras.data.names import one_line
from dfpkeras.data.shard import Shard, StoppedError, write_shard
from dfpkeras.files import PARTIAL, hold_directory

IMAGES_PER_SHARD = 1250
MAX_SHARDS = 1024
_PROGRESS_SECONDS = 0.2


class Conversion:
    """The conversion of images into shards ``train-NNNNN-of-NNNNN`` and ``validation-…``.

    Each split is shuffled as a whole and dealt out to its shards; order and content depend on the
    images and the seed alone. A shard that an earlier, interrupted conversion finished is kept.
    ``labels.txt`` holds the synset of label k in line k, ``broken.txt`` the images that were left
    out and why, ``skipped.txt`` what was not an image, ``conversion.json`` what is finished.

    To be used as a context manager, which locks the directory.

    Args:
        sources: ``SourceImages``.
        out: the directory to write to; created if it does not exist.
        num_shards: dict of the number of files of a split; None, or a split that is missing:
            one for every 1,250 images, at most 1,024.
        seed: seed of the order.

    Raises:
        DataError: there are more shards than images; upon entering, the directory holds something
            else, cannot be written to, or is being written to by another conversion.
    """

    def __init__(self, sources, out, num_shards=None, seed=0):
        self._sources = sources
        self._out = Path(out)
        self._seed = seed
        counts = {split: len(sources.splits[split]) for split in SPLITS}
        self._num_shards = {
            split: (num_shards or {}).get(split) or _default_shards(counts[split])
            for split in SPLITS
        }
        for split, count in counts.items():
            if self._num_shards[split] > count:
                raise DataError(f"{self._num_shards[split]} {split} shards for {count} images")
        self.num_images = sum(counts.values())
        self._held = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as held:
            held.enter_context(_hold(self._out))
            plan = make_plan(self._sources, self._num_shards, self._seed)
            self._manifest = Manifest(self._out, plan)
            shards = [shard for split in SPLITS for shard in self._shards(split)]
            self._shards_to_write = [s for s in shards if not self._manifest.is_finished(s.path)]
            self.num_kept = self.num_images - sum(len(s.images) for s in self._shards_to_write)
            self._held = held.pop_all()
        return self

    def __exit__(self, *exception):
        self._held.close()

    def run(self, workers, on_progress=lambda num_images: None):
        """Writes the shards that are missing.

        Args:
            workers: number of threads.
            on_progress: function called several times a second with the number of images read so
                far.

        Raises:
            DataError: a file cannot be written. What has been finished is kept.
        """
        self._remove_leftovers()
        counter = _Counter()
        with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(workers) as pool:
            # Pillow's warnings about EXIF data and the like.
            warnings.simplefilter("ignore")
            try:
                self._write_shards(pool, counter, on_progress)
            except BaseException:
                counter.stop()
                pool.shutdown(cancel_futures=True)
                raise
        write_text(self._out / LABELS_NAME, _lines(self._sources.synsets))
        write_text(self._out / BROKEN_NAME, _lines(map(_tabbed, self.broken())))
        write_text(self._out / SKIPPED_NAME, _lines(map(_tabbed, self._skipped())))
        self._manifest.finish()

    def num_records(self, split):
        """Returns how many images of a split were written."""
        return sum(r.num_records for name, r in self._results() if name.startswith(split))

    def repaired(self):
        """Returns how many images were re-encoded, by reason."""
        kinds = {}
        for _, result in self._results():
            for kind, count in result.repaired.items():
                kinds[kind] = kinds.get(kind, 0) + count
        return kinds

    def broken(self):
        """Returns path and reason of the images that were left out, sorted."""
        return sorted(tuple(pair) for _, result in self._results() for pair in result.broken)

    def _results(self):
        return self._manifest.results.items()

    def _skipped(self):
        """Returns path and kind of everything that was skipped."""
        by_kind = self._sources.skipped.items()
        return [(path, kind) for kind, paths in by_kind for path in paths]

    def _remove_leftovers(self):
        try:
            for path in self._out.glob(f"{PARTIAL}*"):
                path.unlink()
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be removed: {error.strerror}") from error

    def _shards(self, split):
        images = self._sources.splits[split]
        order = np.random.default_rng([self._seed, SPLITS.index(split)]).permutation(len(images))
        total = self._num_shards[split]
        for number, part in enumerate(np.array_split(order, total)):
            path = self._out / name_shard(split, number, total)
            yield Shard(path, tuple(images[index] for index in part))

    def _write_shards(self, pool, counter, on_progress):
        arguments = self._sources.directory, self._sources.synsets, counter.count
        shards = {pool.submit(write_shard, s, *arguments): s for s in self._shards_to_write}
        pending = shards.keys()
        while pending:
            done, pending = concurrent.futures.wait(
                pending, _PROGRESS_SECONDS, concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                self._manifest.add(shards[future].path, future.result())
            on_progress(self.num_kept + counter.value)


class _Counter:
    """Counts images over all threads, and stops them."""

    def __init__(self):
        self.value = 0
        self._lock = threading.Lock()
        self._stopped = False

    def count(self):
        if self._stopped:
            raise StoppedError
        with self._lock:
            self.value += 1

    def stop(self):
        self._stopped = True


def _default_shards(num_images):
    return min(-(-num_images // IMAGES_PER_SHARD), MAX_SHARDS)


@contextlib.contextmanager
def _hold(directory):
    """Keeps other conversions out of a directory."""
    occupied = DataError(f"{directory}: another conversion is writing to it")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_directory(directory, occupied))
        except OSError as error:
            raise DataError(f"{directory}: cannot be created: {error.strerror}") from error
        yield


def _tabbed(texts):
    return "\t".join(one_line(text) for text in texts)


def _lines(texts):
    return "".join(f"{text}\n" for text in texts)

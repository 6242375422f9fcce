"""Class folders to TFRecords."""

import concurrent.futures
import threading
from pathlib import Path

import numpy as np

from dfpkeras.data.dataset import DataError
from dfpkeras.data.layout import SPLITS
from dfpkeras.data.manifest import LABELS_NAME, Manifest, make_plan, write_text
from dfpkeras.data.shard import Shard, StoppedError, write_shard
from dfpkeras.files import PARTIAL

IMAGES_PER_SHARD = 1250
MAX_SHARDS = 1024
_PROGRESS_SECONDS = 0.2


class Conversion:
    """The conversion of images into shards ``train-NNNNN-of-NNNNN`` and ``validation-…``.

    Each split is shuffled as a whole and dealt out to its shards; order and content depend on the
    images and the seed alone. A shard that a former, interrupted conversion finished is kept.
    ``labels.txt`` holds the synset of label k in line k, ``broken.txt`` the images that were left
    out and why, ``conversion.json`` what is finished.

    Args:
        sources: ``SourceImages``.
        out: the directory to write to; made if need be.
        num_shards: dict of the number of files of a split; None, or a split that is missing:
            one for every 1,250 images, at most 1,024.
        seed: of the order.

    Raises:
        DataError: the directory holds something else or cannot be written to, or there are more
            shards than images.
    """

    def __init__(self, sources, out, num_shards=None, seed=0):
        self._sources = sources
        self._out = Path(out)
        counts = {split: len(sources.splits[split]) for split in SPLITS}
        num_shards = {
            split: (num_shards or {}).get(split) or _default_shards(counts[split])
            for split in SPLITS
        }
        for split, count in counts.items():
            if num_shards[split] > count:
                raise DataError(f"{num_shards[split]} {split} shards for {count} images")
        self._make_directory()
        self._manifest = Manifest(self._out, make_plan(sources, num_shards, seed))
        shards = [shard for split in SPLITS for shard in self._shards(split, num_shards, seed)]
        self._shards_to_write = [s for s in shards if not self._manifest.is_finished(s.path)]
        self.num_images = sum(counts.values())
        self.num_kept = self.num_images - sum(len(s.images) for s in self._shards_to_write)

    def run(self, workers, on_progress=lambda num_images: None):
        """Writes the shards that are missing.

        Args:
            workers: number of threads.
            on_progress: called several times a second with the number of images read so far.

        Raises:
            DataError: a file cannot be written. What is finished by then is kept.
        """
        self._remove_leftovers()
        counter = _Counter()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            try:
                self._write_shards(pool, counter, on_progress)
            except BaseException:
                counter.stop()
                pool.shutdown(cancel_futures=True)
                raise
        write_text(self._out / LABELS_NAME, _lines(self._sources.synsets))
        write_text(self._out / "broken.txt", _lines("\t".join(pair) for pair in self.broken()))
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

    def _make_directory(self):
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self._out}: cannot be made: {error.strerror}") from error

    def _remove_leftovers(self):
        for path in self._out.glob(f"{PARTIAL}*"):
            path.unlink()

    def _shards(self, split, num_shards, seed):
        images = self._sources.splits[split]
        order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(images))
        total = num_shards[split]
        for number, part in enumerate(np.array_split(order, total)):
            path = self._out / f"{split}-{number:05d}-of-{total:05d}"
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


def _lines(texts):
    return "".join(f"{text}\n" for text in texts)

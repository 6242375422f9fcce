"""What is in a folder: images by their names, folders, and everything else, which is skipped."""

import errno
import os
import stat

_SUFFIXES = (".jpeg", ".jpg")

HIDDEN = "hidden"
DANGLING = "links that lead nowhere"
OTHER_SUFFIX = "names that do not end in .JPEG or .jpg"
SPECIAL = "neither files nor folders"
NESTED = "folders in class folders"
OUTSIDE = "images outside class folders"


class FolderEntries:
    """Reads folders, and records what was skipped.

    Args:
        directory: ``pathlib.Path`` that the paths of ``skipped`` are relative to.

    Attributes:
        directory: as given.
        skipped: sorted paths by kind (the constants of this module).
    """

    def __init__(self, directory):
        self.directory = directory
        self.skipped = {}

    def read(self, folder):
        """Reads a folder within the directory.

        Returns:
            The sorted names of its folders, and a dict of the sizes of its images by name.

        Raises:
            OSError: the folder, or what a link leads to, cannot be read.
        """
        folders, sizes, skipped = [], {}, {}
        with os.scandir(folder) as entries:
            for entry in entries:
                kind, size = _examine(entry)
                if kind == _FOLDER:
                    folders.append(entry.name)
                elif kind == _IMAGE:
                    sizes[entry.name] = size
                else:
                    skipped.setdefault(kind, []).append(entry.name)
        for kind, names in skipped.items():
            self.skip(kind, folder, names)
        return sorted(folders), sizes

    def skip(self, kind, folder, names):
        """Records names in a folder as skipped."""
        prefix = folder.relative_to(self.directory)
        if names:
            paths = self.skipped.get(kind, []) + [str(prefix / name) for name in names]
            self.skipped[kind] = sorted(paths)


_FOLDER, _IMAGE = "folder", "image"


def _examine(entry):
    """Returns the kind of an ``os.DirEntry``, and the size if it is an image."""
    if entry.name.startswith("."):
        return HIDDEN, None
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return DANGLING, None
        raise
    if stat.S_ISDIR(status.st_mode):
        return _FOLDER, None
    if not stat.S_ISREG(status.st_mode):
        return SPECIAL, None
    if not entry.name.lower().endswith(_SUFFIXES):
        return OTHER_SUFFIX, None
    return _IMAGE, status.st_size

"""The files that ``dfpkeras bench`` writes."""

import importlib.util
import os
from pathlib import Path

from dfpkeras.cli.errors import CommandError


def check_files(json_path, plot_path):
    """Raises a ``CommandError`` if a file cannot be written; both may be None."""
    for option, path in (("--json", json_path), ("--plot", plot_path)):
        if path and not (Path(path).is_file() or Path(path).absolute().parent.is_dir()):
            raise CommandError(f"{option}: {path}: there is no such directory")
        if path and (Path(path).is_dir() or not _is_writable(Path(path))):
            raise CommandError(f"{option}: {path}: cannot be written")
    if plot_path and Path(plot_path).suffix.lower() != ".png":
        raise CommandError(f"--plot: {plot_path}: the name of a PNG file must end in .png")
    if plot_path and importlib.util.find_spec("matplotlib") is None:
        raise CommandError(
            "--plot: matplotlib: not installed; expected the extra bench: pip install "
            '"dfpkeras[bench]"'
        )


def _is_writable(path):
    return os.access(path if path.exists() else path.absolute().parent, os.W_OK)

"""Packages of the extra ``train``."""

import importlib.util

from dfpkeras.cli.errors import CommandError


def require_packages(*names):
    """Raises a ``CommandError`` that names the extra if one of the packages is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{', '.join(missing)}: not installed; needed is the extra train: "
            'pip install "dfpkeras[train]"'
        )

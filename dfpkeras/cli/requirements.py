"""Packages of the extra ``train``."""

import importlib.util

from dfpkeras.cli.errors import CommandError


def require_packages(*names):
    """Imports packages that are needed later, so that missing or broken ones are reported now.

    Raises:
        CommandError: packages are missing (names the extra), or one cannot be imported.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{', '.join(missing)}: not installed; install the extra train: "
            'pip install "dfpkeras[train]"'
        )
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise CommandError(f"{name} cannot be imported: {error}") from error

"""Layers that compute on integers: one module for each family, which registers it."""

import importlib
import pkgutil


def load():
    """Imports every module of this folder, so that a new family is one new file."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")

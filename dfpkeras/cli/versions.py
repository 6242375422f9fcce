"""Versions of what a result depends on."""

import importlib.metadata
import platform

import keras


def versions():
    """Returns a dict from the name of a package to its version, Keras' backend included."""
    backend = keras.backend.backend()
    packages = ["dfpkeras", "keras", backend, "numpy"]
    return {name: _version(name) for name in packages} | {"python": platform.python_version()}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

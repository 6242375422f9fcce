"""What the differentiable operations need from a framework: `base.Backend`, a folder for each one.

A folder has the name of Keras' backend that it is for, and defines `BACKEND`, its class. The
integration into Keras says which one is in use.
"""

import importlib
import pkgutil

_current = None


def names():
    """Returns the names of Keras' backends that have a folder here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def make(name):
    """Returns a new `base.Backend` for Keras' backend of this name, or None without a folder."""
    if name not in names():
        return None
    return importlib.import_module(f"{__name__}.{name}").BACKEND()


def use(backend):
    """Makes `backend`, a `base.Backend`, the one that differentiable operations run on."""
    global _current
    _current = backend


def current():
    """Returns the `base.Backend` in use.

    Raises:
        RuntimeError: there is none.
    """
    if _current is None:
        raise RuntimeError(
            "dfpkeras has no integer operations for this backend of Keras; set "
            f"KERAS_BACKEND={' or '.join(names())} before importing keras"
        )
    return _current

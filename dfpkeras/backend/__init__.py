"""What the differentiable operations need of a framework: `base.Backend`, one folder for each.

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
    """Has the differentiable operations run on `backend`, a `base.Backend`, from now on."""
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

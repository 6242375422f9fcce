"""What the differentiable operations need from a framework: `base.Backend`, a folder for each one.

The integration into Keras says which one is in use; only that one's framework is imported.
"""


def _tensorflow():
    from dfpkeras.backend.tensorflow import TensorFlowBackend

    return TensorFlowBackend()


#: Functions that make a `base.Backend`, by the name of Keras' backend that it is for.
BACKENDS = {"tensorflow": _tensorflow}

_current = None


def names():
    """Returns the names of Keras' backends that there is a `base.Backend` for."""
    return sorted(BACKENDS)


def make(name):
    """Returns a new `base.Backend` for Keras' backend of this name, or None if there is none."""
    return BACKENDS[name]() if name in BACKENDS else None


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

"""What the differentiable operations need from a framework: `base.Backend`, a folder for each one.

The integration into a framework selects the one in use.
"""

_current = None


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
            "KERAS_BACKEND=tensorflow before importing keras"
        )
    return _current

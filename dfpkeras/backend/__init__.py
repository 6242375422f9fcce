"""What the differentiable operations need of a framework: `base.Backend`, one folder for each.

The integration into a framework says which one is in use.
"""

_current = None


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
            "KERAS_BACKEND=tensorflow before importing keras"
        )
    return _current

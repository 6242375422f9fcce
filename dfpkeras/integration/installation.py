"""Puts the policy "dfp16" into Keras, if a supported Keras can be imported.

Keras imports its backend, so without one there is no Keras; the NumPy-level kernels need neither.
"""

import re

KERAS = ("3.13", "3.15")
TENSORFLOW = ("2.18", "2.21")
TESTED = f"Keras {' to '.join(KERAS)} and TensorFlow {' to '.join(TENSORFLOW)}"

# What may be absent: Keras, its backends, and what Keras' NumPy backend needs.
_OPTIONAL = ("keras", "tensorflow", "jax", "torch", "openvino", "scipy")

_missing = None


def install() -> bool:
    """Wraps Keras' classes; calling it again changes nothing.

    Returns:
        bool, whether there is a Keras; if not, `require_keras` says what is missing.

    Raises:
        ImportError: Keras or TensorFlow is older than what dfpkeras works with, or so new that
            something that it builds on no longer exists.
    """
    global _missing
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        _missing = error.name
        return False
    found = [("Keras", keras.__version__, KERAS)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found.append(("TensorFlow", tf.__version__, TENSORFLOW))
    _refuse_older(found)
    try:
        _wrap_keras()
    except (ImportError, AttributeError) as error:
        newer = [
            f"{name} {version}"
            for name, version, (_, last) in found
            if release(version) > release(last)
        ]
        if not newer:
            raise
        raise ImportError(
            f"dfpkeras does not work with {' and '.join(newer)} ({error}): it works with {TESTED}"
        ) from error
    return True


def uninstall() -> None:
    """Undoes every change to Keras and TensorFlow: layers of the policy "dfp16" compute in float32
    from their next call, and the policy is no longer available.

    What has been traced stays as it is. `dfpkeras.install` restores everything.
    """
    require_keras("dfpkeras.uninstall")
    from dfpkeras.integration import wiring

    wiring.uninstall()


def require_keras(name):
    """Raises ModuleNotFoundError, which says what to install, if Keras is missing.

    Args:
        name: str, the part of dfpkeras that needs it.
    """
    if _missing:
        raise ModuleNotFoundError(
            f"{name} needs Keras with its TensorFlow backend, and {_missing} is not installed: "
            'pip install "dfpkeras[tensorflow]"',
            name=_missing,
        )


def release(version):
    """Returns (major, minor) of a version given as str."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _refuse_older(found):
    for name, version, (first, _) in found:
        if release(version) < release(first):
            raise ImportError(
                f"dfpkeras works with {TESTED}; {name} {version} is too old: "
                f'pip install --upgrade "{name.lower()}>={first}"'
            )


def _wrap_keras():
    from dfpkeras.integration import wiring

    wiring.install()

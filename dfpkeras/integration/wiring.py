"""Installs the policy and the integer layers in Keras, and uninstalls them."""

import keras

from dfpkeras import backend
from dfpkeras.backend.float32_only import float32_only
from dfpkeras.integration import keras_internals, layers, policy, strict
from dfpkeras.integration.calls import decide, wrap_layers
from dfpkeras.runtime.memory import release_memory


def install():
    """Wraps Keras' classes. Calling it again, also on another backend, adds only what is
    missing."""
    keras_internals.install(
        policy.parse_name,
        policy.after_init,
        strict.check,
        _jit_is_supported,
        _export,
        release_memory,
    )
    made = backend.make(keras.backend.backend())
    if made is not None:
        backend.use(made)
        made.install()
        layers.load()
        wrap_layers()


def uninstall():
    """Undoes `install`: every layer is Keras' own again."""
    keras_internals.uninstall()
    if keras.backend.backend() in backend.names():
        backend.current().uninstall()


def _jit_is_supported(original, model):
    """Has Keras turn ``jit_compile=True`` off, with its own warning: XLA has no callbacks."""
    all_layers = keras_internals.inner_layers(model, recursive=True)
    return original(model) and not any(decide(layer).integer for layer in all_layers)


def _export(original, *args, **kwargs):
    """Has `model.export`, to any format, trace the framework's own float32 operations."""
    with float32_only():
        return original(*args, **kwargs)

"""Has Keras' ``clear_session()`` give the kernels' memory back."""

import functools
import sys

from keras.src.backend.common import global_state

from dfpkeras.runtime.memory import release_memory


def install():
    """Wraps ``keras.utils.clear_session``, by any of its names in Keras; twice changes nothing."""
    original = global_state.clear_session
    if hasattr(original, "_dfpkeras"):
        return

    @functools.wraps(original)
    def clear_session(*args, **kwargs):
        original(*args, **kwargs)
        release_memory()

    clear_session._dfpkeras = True
    for name, module in list(sys.modules.items()):
        named = vars(module).get("clear_session") if name.split(".")[0] == "keras" else None
        if named is original:
            module.clear_session = clear_session

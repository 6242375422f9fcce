"""Train Keras CNNs on ordinary CPUs with INT16 dynamic fixed point kernels.

Importing this package registers the dtype policy "dfp16"::

    import dfpkeras
    keras.mixed_precision.set_global_policy("dfp16")
"""

from dfpkeras.runtime import isa, threads

isa.set_default()
threads.set_default()

from dfpkeras import kernels  # noqa: E402
from dfpkeras.integration.installation import install, require_keras, uninstall  # noqa: E402
from dfpkeras.kernels.quantized_tensor import DFPTensor, quantize  # noqa: E402
from dfpkeras.runtime.memory import memory_stats, release_memory  # noqa: E402
from dfpkeras.runtime.threads import get_num_threads, set_num_threads  # noqa: E402

__version__ = "0.1.0"

if install():
    from dfpkeras import callbacks, layers, training
    from dfpkeras.backend.float32_only import float32_only
    from dfpkeras.integration.conversion import to_float32
    from dfpkeras.integration.policy import DFP16Policy
    from dfpkeras.integration.report import report


def __getattr__(name):
    if name in __all__:
        require_keras(f"dfpkeras.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DFP16Policy",
    "DFPTensor",
    "callbacks",
    "float32_only",
    "get_num_threads",
    "install",
    "kernels",
    "layers",
    "memory_stats",
    "quantize",
    "release_memory",
    "report",
    "set_num_threads",
    "to_float32",
    "training",
    "uninstall",
]

"""The speed of quantising, compared with that of memory.

Quantising reads an FP32 tensor twice, for its largest magnitude and to convert it, and writes half
as many bytes: 10 bytes an element. The yardstick is `numpy.copyto` between two allocated FP32
tensors, on as many threads, each with its own slice: 8 bytes an element.
"""

import concurrent.futures
import statistics

import numpy as np

import dfpkeras
from dfpkeras import _native
from dfpkeras.benchmark.measure import take_turns
from dfpkeras.kernels.number_format import ACTIVATION_BITS
from dfpkeras.kernels.quantized_tensor import ROUNDINGS

#: 64 MiB of FP32: more than most third-level caches hold, as large as ResNet-50's largest
#: activations at batch 16.
ELEMENTS = 2**24

_BYTES_PER_ELEMENT = {"copy": 8, "quantize": 10, "quantize_new": 10}


def measure_quantization(seconds, elements=ELEMENTS):
    """Measures quantising to nearest with the bits of activations.

    Args:
        seconds: time to spend.
        elements: number of elements of the tensor.

    Returns:
        A dict: "bytes" of the FP32 tensor, and in GB/s: "copy"; "quantize" into memory allocated
        before, as for the copy; and "quantize_new" for `dfpkeras.quantize`, which includes the
        system's allocation of new pages.
    """
    x = np.random.default_rng(0).standard_normal(elements, np.float32)
    target, q = np.zeros_like(x), np.zeros(x.shape, np.int16)
    nearest = ROUNDINGS.index("nearest")
    with concurrent.futures.ThreadPoolExecutor(dfpkeras.get_num_threads()) as pool:
        calls = {
            "copy": lambda: _copy(pool, target, x),
            "quantize": lambda: _native.quantize((None, 0, 0, x), ACTIVATION_BITS, nearest, 0, q),
            "quantize_new": lambda: dfpkeras.quantize(x, ACTIVATION_BITS),
        }
        times = take_turns(calls, seconds)
    return {"bytes": x.nbytes} | {
        name: size * elements / statistics.median(times[name]) / 1e9
        for name, size in _BYTES_PER_ELEMENT.items()
    }


def _copy(pool, target, source):
    count = dfpkeras.get_num_threads()
    parts = zip(np.array_split(target, count), np.array_split(source, count), strict=True)
    list(pool.map(lambda part: np.copyto(*part), parts))

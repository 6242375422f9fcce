"""How often each kernel ran."""

import collections
import threading

from dfpkeras.runtime import kernel_observers


class KernelHits(collections.Counter):
    """How often each kernel ran, by operation name; a missing name has the count 0.

    Names: ``quantize_activation``, ``quantize_weights``, ``quantize_gradient``,
    ``dequantize``, ``bias_gradient``, for each of ``conv``, ``depthwise`` and ``dense``:
    ``<kind>_forward``, ``<kind>_backward_data``, ``<kind>_backward_weights``, and
    ``batch_norm_statistics``,
    ``batch_norm_forward``, ``batch_norm_backward``, ``layer_norm_forward``,
    ``layer_norm_backward``, ``activation_forward``, ``add``,
    ``activation_backward``, ``sum_gradients``,
    ``max_pool``, ``average_pool``, ``global_average_pool``, ``global_max_pool``, each also with
    ``_backward``, ``concatenate``, ``split``, ``zero_pad``, ``crop``, ``multiply``,
    ``sum_products``.

    Attributes:
        observer: function of a name that is called, in the kernel's thread, as the kernel begins;
            or None. It tells a profiler which kernel a callback runs.
    """

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()
        self.observer = None

    def add(self, name):
        """Counts one run of the kernel `name` (str); safe to call from several threads."""
        with self._lock:
            self[name] += 1
        observer = self.observer
        if observer is not None:
            observer(name)
        kernel_observers.began(name)

    def reset(self):
        """Forgets all counts."""
        with self._lock:
            self.clear()


hits = KernelHits()

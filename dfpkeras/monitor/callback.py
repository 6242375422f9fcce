"""The callback that looks inside."""

import warnings
import weakref
from pathlib import Path

import keras

from dfpkeras.integration.layer_paths import named_layers
from dfpkeras.integration.policy import number_format_of
from dfpkeras.kernels.quantized_tensor import MAX_BITS
from dfpkeras.monitor.records import NAME, MonitorError, Records
from dfpkeras.monitor.rows import OF_PRODUCT, OF_TENSOR
from dfpkeras.monitor.sample import Sample
from dfpkeras.monitor.summary import Summary
from dfpkeras.runtime.argument_checks import check_integer
from dfpkeras.runtime.kernel_observers import add_observer, remove_observer

#: Useful bits below which a tensor is warned of.
FEW_USEFUL_BITS = 3.0


class DFPMonitor(keras.callbacks.Callback):
    """Records in some steps of a training how well integers represent each layer's tensors.

    Of each tensor of a layer (activation, weights, gradient): shared exponent, largest magnitude,
    share of zeros and of saturated integers, signal-to-quantisation-noise ratio and useful bits; of
    each product (forward, backward-data, backward-weights): its algorithm, how many products are
    summed in INT32, and how often sums are added in FP32. docs/monitor.md defines them. Results of
    the training are the same, bit for bit, with and without it.

    A tensor with few useful bits is warned of once, with what helps. At the end of the training a
    table of the least values is printed.

    Args:
        directory: str or path of the directory that gets ``monitor.csv``; None for no file. Rows of
            steps that the optimizer has not done yet are replaced, so that a resumed training
            continues the file, and a new one begins it again.
        interval: number of steps between two that are recorded. The first one of a training is,
            too.
        tensorboard: str or path of a directory for event files, or None for none.
        verbose: 0 for no table.

    Attributes:
        rows: list of `dfpkeras.monitor.rows.Row`, of the latest step that was recorded.

    Raises:
        TypeError: `interval` is not an integer.
        ValueError: `interval` is not positive.
        MonitorError: when training begins, ``monitor.csv`` is something else, or cannot be written.
    """

    def __init__(self, directory=None, interval=100, tensorboard=None, verbose=1):
        super().__init__()
        self._is_first = True
        self._interval = check_integer("interval", interval)
        if interval < 1:
            raise ValueError(f"interval: expected at least 1, got {interval}")
        self._records = None if directory is None else Records(Path(directory) / NAME)
        self._tensorboard = tensorboard
        self._verbose = verbose
        self._events = None
        self._unwritten = []
        self._warned = set()
        self._summary = Summary()
        self.rows = []
        # What observes the kernels now: it stops if this callback does not hear of a step's end.
        self._observing = []
        weakref.finalize(self, _stop, self._observing)

    def on_train_begin(self, logs=None):
        _stop(self._observing)
        self._is_first = True
        self._warned = set()
        self._summary = Summary()
        if self._tensorboard is not None and self._events is None:
            from dfpkeras.event_files import EventFile

            self._events = EventFile(Path(self._tensorboard))
        if self._records is not None:
            self._records.continue_from(self._steps())

    def on_train_batch_begin(self, batch, logs=None):
        _stop(self._observing)
        if self._is_first or self._steps() % self._interval == 0:
            self._is_first = False
            sample = Sample({layer: path for path, layer in named_layers(self.model)})
            self._observing.append(sample)
            add_observer(sample)

    def on_train_batch_end(self, batch, logs=None):
        if not self._observing:
            return
        (sample,) = self._observing
        _stop(self._observing)
        self.rows = sample.rows(self._steps())
        self._summary.add(self.rows)
        for row in self.rows:
            self._warn_of(row)
        self._write()

    def on_train_end(self, logs=None):
        _stop(self._observing)
        if self._verbose:
            print(self._summary)

    def _steps(self):
        return int(self.model.optimizer.iterations)

    def _write(self):
        if self._events is not None:
            self._events.write(self._steps(), _scalars(self.rows))
        if self._records is None:
            return
        self._unwritten += self.rows
        try:
            self._records.append(self._unwritten)
        except MonitorError as error:
            warnings.warn(f"{error}; training continues, and this is tried again", stacklevel=2)
        else:
            self._unwritten = []

    def _warn_of(self, row):
        if row.useful_bits is None or not row.useful_bits < FEW_USEFUL_BITS:
            return
        if (row.layer, row.role) not in self._warned:
            self._warned.add((row.layer, row.role))
            layer = next(layer for path, layer in named_layers(self.model) if path == row.layer)
            warnings.warn(_warning(row, number_format_of(layer)), stacklevel=2)


def _stop(observing):
    while observing:
        remove_observer(observing.pop())


def _scalars(rows):
    """The numbers of rows, by the names that TensorBoard groups them by."""
    return {
        f"{name}/{row.layer}/{row.role or row.direction}": value
        for row in rows
        for name in (*OF_TENSOR, *OF_PRODUCT)
        if (value := getattr(row, name)) is not None
    }


def _warning(row, number_format):
    remedies = [_REMEDIES[row.role]]
    if number_format is not None:  # an operation, such as a sum, has no policy of its own
        bits = getattr(number_format, f"{_SETTINGS[row.role]}_bits")
        if bits < MAX_BITS:
            of_policy = f"{_SETTINGS[row.role]}_bits than {bits} in the layer's DFP16Policy"
            remedies.append(f"more {of_policy}")
        remedies.append('dtype="float32" for this layer')
    return (
        f"{row.layer}, {row.role}: {row.useful_bits:.1f} useful bits in step {row.step}, "
        f"{FEW_USEFUL_BITS:g} or more are wanted: the largest number of this tensor, "
        f"{row.largest:.3g}, is too much larger than most others. What helps: "
        f"{', or '.join(remedies)} (docs/monitor.md)"
    )


_SETTINGS = {"activation": "activation", "weights": "weight", "gradient": "gradient"}
_REMEDIES = {
    "activation": "normalise or clip what the layer is given, so that it has no outliers",
    "weights": "a kernel constraint or regularizer that keeps single weights from growing",
    "gradient": 'rounding="stochastic", which keeps small numbers on average',
}

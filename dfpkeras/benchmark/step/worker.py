"""The process of one contender: ``python -m dfpkeras.benchmark.step.worker FD``.

It answers requests on the connection FD, each a tuple of a method's name and its arguments, with
("result", value) or, for what the method raised, ("model error" or "error", text).
"""

import gc
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import keras

import dfpkeras
from dfpkeras.benchmark.measure import settle
from dfpkeras.benchmark.step.case import ModelError
from dfpkeras.benchmark.step.contenders import OURS
from dfpkeras.benchmark.step.keras_step import KerasStep
from dfpkeras.ops.kernel_hits import hits

_STATUS = Path("/proc/self/status")


class Worker:
    """What the process can be asked for.

    Args:
        contender: `Contender`; Keras already runs on its backend.
        case: `Case`.
    """

    def __init__(self, contender, case):
        self._contender = contender
        self._case = case
        self._step = None
        self._idle_since, self._idle_cpu_seconds = time.process_time(), 0.0

    def answer(self, method, *arguments):
        """Runs a method, and waits until the threads it woke up sleep."""
        self._idle_cpu_seconds += time.process_time() - self._idle_since
        result = getattr(self, method)(*arguments)
        settle()
        self._idle_since = time.process_time()
        return result

    def build(self):
        """Builds and compiles the model; returns what runs it, and a remark on that or ""."""
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy(self._contender.policy)
        model, remark = self._case.build(), ""
        if self._contender.backend == "torch":
            self._step, remark = _torch_step(self._contender, self._case, model)
        else:
            self._step = KerasStep(self._case, model)
        gc.collect()
        return self._step.implementation, remark

    def turn(self, seconds):
        """Runs steps until some time has passed, one at least; returns the seconds of each."""
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            # Held until the clock has stopped: freeing it takes time.
            result = self._step.run()
            times.append(time.perf_counter() - start)
            del result
        return times

    def hits(self):
        """How often each kernel of this package runs in a step; runs one step.

        Raises:
            RuntimeError: this is the contender of this package, and none of its kernels ran.
        """
        hits.reset()
        self._step.run()
        if self._contender.name == OURS and not hits:
            raise RuntimeError("none of the model's layers runs on the integer kernels")
        return dict(hits)

    def profile(self, steps):
        """Where the time of a step goes, see `trace.profile`; None without such a profiler."""
        if self._contender.backend != "tensorflow":
            return None
        from dfpkeras.benchmark.step.trace import profile

        return profile(self._step.run, self._step.model, steps)

    def resources(self):
        """A dict of what the process has used so far.

        "peak_memory": largest resident memory in bytes, None where the system does not report it;
        "idle_cpu_seconds": CPU time spent between requests, while others computed.
        """
        return {"peak_memory": _peak_memory(), "idle_cpu_seconds": self._idle_cpu_seconds}


def _torch_step(contender, case, model):
    import torch

    from dfpkeras.benchmark.step.torch_layers import TranslationError
    from dfpkeras.benchmark.step.torch_network import TorchNetwork
    from dfpkeras.benchmark.step.torch_step import TorchStep

    torch.set_num_threads(dfpkeras.get_num_threads())
    try:
        network = TorchNetwork(model)
    except TranslationError as error:
        if contender.autocast or contender.compiles:
            raise ModelError(f"not as plain PyTorch: {error}") from error
        return KerasStep(case, model), str(error)
    return TorchStep(case, model, network, contender.autocast, contender.compiles), ""


def _peak_memory():
    # Not `resource.getrusage`: its maximum includes that of the process that started this one.
    if not _STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def serve(connection):
    """Answers requests until the other side has closed the connection."""
    worker = Worker(*connection.recv())
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = "result", worker.answer(*request)
        except ModelError as error:
            answer = "model error", str(error)
        except Exception as error:
            # What goes wrong in a model or a library must not end the benchmark.
            answer = "error", f"{type(error).__name__}: {error}"
        connection.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))

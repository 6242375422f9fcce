"""Interleaved measurement of several contenders.

Contenders take turns, so that noise on the machine affects all of them, and medians are compared.
Between turns everything waits until the threads of the last contender sleep: OpenMP's keep
spinning for about 8 ms after a call (libgomp, measured with PyTorch 2.13), which would take a core
from the next contender.
"""

import collections
import dataclasses
import gc
import statistics
import time

from dfpkeras.benchmark.peers import UnsupportedError
from dfpkeras.benchmark.random_operands import make_operands

OURS = "dfpkeras"

# Calls shorter than this come after an untimed one that wakes the threads up, and are repeated
# until a turn has taken about this long.
_TURN_SECONDS = 0.02
_MOST_CALLS_IN_A_TURN = 50
_FEWEST_ROUNDS = 3

_SETTLE_STEP = 0.002
_SETTLE_LIMIT = 0.1


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one direction of one layer took.

    Attributes:
        layer: `Convolution` or `Dense`.
        direction: one of `DIRECTIONS`.
        macs: useful multiply-adds of a call.
        seconds: dict from the name of each contender to the seconds of each timed call.
        left_out: dict from the name of a contender that cannot compute this to the reason.
    """

    layer: object
    direction: str
    macs: int
    seconds: dict
    left_out: dict = dataclasses.field(default_factory=dict)

    def median(self, name):
        """Median of the seconds of a contender's call, None if it was left out."""
        return statistics.median(self.seconds[name]) if name in self.seconds else None

    def gmacs_per_second(self, name):
        """Speed in 10^9 multiply-adds a second, None if the contender was left out."""
        median = self.median(name)
        return None if median is None else self.macs / median / 1e9

    @property
    def better_peer(self):
        """Name of the fastest contender other than ours, None if there is no other."""
        return min((name for name in self.seconds if name != OURS), key=self.median, default=None)

    @property
    def ratio(self):
        """Median of the better peer over ours: above 1 we are faster. None without a peer."""
        peer = self.better_peer
        return None if peer is None else self.median(peer) / self.median(OURS)


def measure_layer(contenders, layer, direction, batch_size, seconds):
    """Measures one direction of a layer.

    Args:
        contenders: see `dfpkeras.benchmark.peers`.
        layer: `Convolution` or `Dense`.
        direction: one of `DIRECTIONS`.
        batch_size: images.
        seconds: time to spend, warm-up excluded; every contender has three turns at least.

    Returns:
        A `Measurement`.
    """
    operands = make_operands(layer, batch_size)
    calls, left_out = {}, {}
    for contender in contenders:
        try:
            calls[contender.name] = contender.prepare(layer, direction, operands)
        except UnsupportedError as error:
            left_out[contender.name] = str(error)
    times = take_turns(calls, seconds)
    return Measurement(layer, direction, layer.macs(batch_size), times, left_out)


def take_turns(calls, seconds):
    """Times functions, each in its turn, in an order that rotates.

    Args:
        calls: dict from a name to a function without arguments.
        seconds: time to spend, warm-up excluded.

    Returns:
        A dict from each name to a list of the seconds of each timed call.
    """
    estimates = {name: _warm_up(call) for name, call in calls.items()}
    times = {name: [] for name in calls}
    order = collections.deque(calls)
    rounds, end = 0, time.perf_counter() + seconds
    collecting = gc.isenabled()
    gc.disable()
    try:
        while rounds < _FEWEST_ROUNDS or time.perf_counter() < end:
            for name in order:
                times[name] += _turn(calls[name], estimates[name])
            order.rotate(1)
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return times


def settle():
    """Waits until this process uses no CPU time, 0.1 s at most."""
    end = time.perf_counter() + _SETTLE_LIMIT
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(_SETTLE_STEP)
        if time.process_time() - before < _SETTLE_STEP / 10:
            return


def _warm_up(call):
    call()
    return _timed(call)


def _turn(call, estimate):
    settle()
    if estimate >= _TURN_SECONDS:
        return [_timed(call)]
    call()
    count = min(_MOST_CALLS_IN_A_TURN, round(_TURN_SECONDS / estimate))
    return [_timed(call) for _ in range(count)]


def _timed(call):
    start = time.perf_counter()
    # Held until the clock has stopped: freeing a large result takes time.
    result = call()
    elapsed = time.perf_counter() - start
    del result
    return elapsed

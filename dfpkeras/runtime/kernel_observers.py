"""On whose behalf a kernel runs, and who is told what it computes.

Whatever calls a kernel, at once or when a graph runs, does so on behalf of an *owner*, such as a
layer: any object, noted when the call is made or traced. While there are observers, they are told
of the owner of each kernel, and what it quantised and multiplied.
"""

import contextlib
import contextvars
import functools
import threading

from dfpkeras import _native

_owner = contextvars.ContextVar("dfpkeras_owner", default=None)
_of_thread = threading.local()
_changing = threading.Lock()

#: Those that are told, usually nobody: all that a kernel call asks.
observers: tuple = ()


def owner():
    """The owner of the kernels that are called or traced now, or None."""
    return _owner.get()


@contextlib.contextmanager
def owned_by(new_owner):
    """Makes an object the owner of the kernels that are called or traced in a context."""
    token = _owner.set(new_owner)
    try:
        yield
    finally:
        _owner.reset(token)


def on_behalf_of_owner(function):
    """Returns `function`, which will call kernels on behalf of the present owner, whenever it is
    called."""
    present = owner()

    @functools.wraps(function)
    def owned(*args):
        with owned_by(present):
            return function(*args)

    return owned


def add_observer(observer):
    """Has an observer told of kernels, in any thread.

    Args:
        observer: object whose method `watch`, called with the owner of a kernel that begins,
            returns None, or an object with the methods `began`, `quantized`, `multiplies` and
            `multiplied`, which are called with the arguments of the functions of these names here.
    """
    global observers
    with _changing:
        observers = (*observers, observer)


def remove_observer(observer):
    """Undoes `add_observer`, if it was called."""
    global observers
    with _changing:
        observers = tuple(other for other in observers if other is not observer)


def run_observed(kernel_owner, function, *args):
    """Returns ``function(*args)``, a kernel whose observers are told."""
    watched = (observer.watch(kernel_owner) for observer in observers)
    _of_thread.watchers = [watcher for watcher in watched if watcher is not None]
    try:
        return function(*args)
    finally:
        _of_thread.watchers = []


def began(name):
    """The kernel `name` begins."""
    if observers:
        _tell("began", name)


def quantized(tensor, tensor_format, source=None):
    """The running kernel made `tensor`, a `DFPTensor`, in a `TensorFormat`, from the float32 array
    or `BlockTensor` `source` if that is known."""
    if observers:
        _tell("quantized", tensor, tensor_format, source)


def multiplies(role, tensor):
    """The running kernel multiplies `tensor`, a `DFPTensor` of a layer's "activation", "weights" or
    "gradient", by another one."""
    if observers:
        _tell("multiplies", role, tensor)


def multiplied(algorithm):
    """The running kernel has just computed a product by an algorithm."""
    if observers:
        _tell("multiplied", algorithm, *_native.last_run_counts())


def _tell(method, *args):
    for watcher in getattr(_of_thread, "watchers", ()):
        getattr(watcher, method)(*args)

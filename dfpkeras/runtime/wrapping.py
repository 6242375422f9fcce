"""Functions of other libraries that are replaced by wrappers, and put back."""

import functools
import inspect


class UnknownSignatureError(AttributeError):
    """A function to be wrapped has other parameters than the wrapper expects."""


class Wrappers:
    """What was wrapped, so that nothing is wrapped twice and all of it can be undone."""

    def __init__(self):
        self._originals = {}

    def wrap(self, owner, name, wrapper, parameters):
        """Replaces an attribute, a function, by one that calls ``wrapper(original, *args,
        **kwargs)``.

        Args:
            owner: module or class.
            name: name of the attribute; what is already wrapped stays as it is.
            wrapper: function.
            parameters: names of the first parameters that the function must have: those that
                `wrapper` looks at, possibly none.

        Raises:
            UnknownSignatureError: there is no such function, or it has other parameters.
        """
        if (owner, name) in self._originals:
            return
        original = _function(owner, name)
        _check_parameters(owner, name, original, parameters)

        @functools.wraps(original)
        def wrapped(*args, **kwargs):
            return wrapper(original, *args, **kwargs)

        wrapped._made_by = self
        # A class may only inherit it.
        attribute = vars(owner).get(name)
        self._originals[owner, name] = attribute
        is_static = isinstance(attribute, staticmethod)
        setattr(owner, name, staticmethod(wrapped) if is_static else wrapped)

    def made(self, function):
        """Whether `function` is one of the wrappers that are in place."""
        return getattr(function, "_made_by", None) is self

    def undo(self):
        """Puts everything back."""
        while self._originals:
            (owner, name), original = self._originals.popitem()
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def _function(owner, name):
    original = getattr(owner, name, None)
    if not callable(original):
        raise UnknownSignatureError(f"{owner.__name__}.{name} is missing")
    return original


def _check_parameters(owner, name, function, parameters):
    found = tuple(inspect.signature(function).parameters)
    if found[: len(parameters)] != tuple(parameters):
        raise UnknownSignatureError(
            f"{owner.__name__}.{name} takes ({', '.join(found)}), "
            f"expected ({', '.join(parameters)})"
        )

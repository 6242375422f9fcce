"""Finds the function that "module:function" names."""

import importlib
import os
import sys


def find_function(path):
    """Imports a function; modules in the current folder are found, too.

    Args:
        path: "module:function", such as "mymodels.small:build".

    Raises:
        ValueError: `path` has another form, importing the module fails, or it has no such function.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{path}: expected MODULE:FUNCTION, such as mymodels.small:build")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that it hides nothing installed
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise ValueError(
            f"{path}: cannot import {module}: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ValueError(f"{path}: module {module} has no function {name}")
    return found

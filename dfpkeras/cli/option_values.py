"""From text to the values of options: each function refuses invalid text.

The same functions check the values of a recipe, as text.
"""

import argparse

from dfpkeras.integration.policy import is_policy_name


def positive_int(text):
    return _number(text, int, "an integer of at least 1", lambda value: value >= 1)


def non_negative_int(text):
    return _number(text, int, "an integer of at least 0", lambda value: value >= 0)


def seed(text):
    return _number(text, int, "an integer from 0 to 2147483647", lambda value: 0 <= value < 2**31)


def positive_float(text):
    needed = "a number greater than 0 and finite"
    return _number(text, float, needed, lambda value: 0 < value < float("inf"))


def non_negative_float(text):
    needed = "a number of at least 0 and finite"
    return _number(text, float, needed, lambda value: 0 <= value < float("inf"))


def fraction(text):
    """A float in [0, 1)."""
    needed = "a number of at least 0 and less than 1"
    return _number(text, float, needed, lambda value: 0 <= value < 1)


def boolean(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text}")
    return text.lower() == "true"


def pixels_or_auto(text):
    return text if text == "auto" else positive_int(text)


def one_of(*choices):
    """Returns a function that accepts nothing but the choices."""

    def choice(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(choices)}, got {text}")
        return text

    return choice


def dtype_policy(text):
    """Name of a dtype policy."""
    try:
        known = text == "float32" or is_policy_name(text)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(error) from error
    if not known:
        raise argparse.ArgumentTypeError(
            f"must be float32, dfp16 or dfp16(name=value, ...), got {text}"
        )
    return text


def model_path(text):
    """MODULE:FUNCTION."""
    module, separator, function = text.partition(":")
    names = [*module.split("."), function]
    if not separator or not all(name.isidentifier() for name in names):
        raise argparse.ArgumentTypeError(f"must be MODULE:FUNCTION, got {text}")
    return text


def run_name(text):
    if not text or text in (".", "..") or "/" in text or "\\" in text:
        raise argparse.ArgumentTypeError(f"must be the name of a directory, not a path: {text!r}")
    return text


def _number(text, kind, needed, is_good):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_good(value):
        raise argparse.ArgumentTypeError(f"must be {needed}, got {text}")
    return value

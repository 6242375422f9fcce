"""Names of files as text."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def one_line(text):
    r"""Returns a text with control characters and line endings as escapes, such as ``\n``."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)

"""The one way to print with rich: names, paths and messages are text, never markup."""

import io
import shutil

import rich.console
import rich.progress
import rich.text

_WIDTH = 120


def make_console(**options):
    """Returns a ``rich.console.Console`` that prints "[a]" and ":b:" unchanged.

    rich itself respects NO_COLOR, TERM=dumb and COLUMNS.

    Args:
        options: options of ``rich.console.Console``.
    """
    return rich.console.Console(markup=False, emoji=False, **options)


def as_lines(*parts):
    """Returns what a console of at most 120 columns shows: str, tables."""
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    text = io.StringIO()
    console = make_console(file=text, width=min(width, _WIDTH), color_system=None)
    for part in parts:
        console.print(part)
    return text.getvalue()


def make_progress(*columns, **options):
    """Returns a ``rich.progress.Progress`` on standard error that shows nothing without a terminal.

    Args:
        columns: columns of the bar; a str names a field of the task, shown as text.
        options: options of ``rich.progress.Progress``.
    """
    console = make_console(stderr=True)
    columns = [
        rich.progress.TextColumn(f"{{task.{column}}}", markup=False)
        if isinstance(column, str)
        else column
        for column in columns
    ]
    return rich.progress.Progress(
        *columns, console=console, disable=not is_live(console), **options
    )


def is_live(console):
    """Tells whether lines of a console can be redrawn."""
    return console.is_terminal and not console.is_dumb_terminal


def as_text(text, style=""):
    """Returns a ``rich.text.Text``, for the places where rich interprets every str as markup."""
    return rich.text.Text(text, style)

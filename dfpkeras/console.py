"""The one way to print with rich: names, paths and messages are text, never markup."""

import rich.console
import rich.progress
import rich.text


def make_console(**options):
    """Returns a ``rich.console.Console`` that shows "[a]" and ":b:" as they are.

    rich itself respects NO_COLOR, TERM=dumb and COLUMNS.

    Args:
        options: of ``rich.console.Console``.
    """
    return rich.console.Console(markup=False, emoji=False, **options)


def make_progress(*columns, **options):
    """Returns a ``rich.progress.Progress`` on standard error that shows nothing without a terminal.

    Args:
        columns: of the bar; a str stands for the value of that name of the task, as text.
        options: of ``rich.progress.Progress``.
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
    """Tells whether lines of a console can be drawn again."""
    return console.is_terminal and not console.is_dumb_terminal


def as_text(text, style=""):
    """Returns a ``rich.text.Text``, for the places where rich takes every str for markup."""
    return rich.text.Text(text, style)

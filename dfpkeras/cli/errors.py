"""Errors that the user can correct."""


class CommandError(Exception):
    """A command cannot do what it was asked to do: the message is all the user needs to see."""

"""What the user has to put right."""


class CommandError(Exception):
    """A command cannot do what it was asked for: the message is all the user needs to see."""

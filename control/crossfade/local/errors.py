"""What can go wrong with the embedded stack."""


class LocalStackError(Exception):
    """The embedded stack cannot do what was asked; the message is one line for a person."""


class StackNotRunningError(LocalStackError):
    """No stack runs for the data directory."""


class StackStartError(LocalStackError):
    """A part of the stack did not come up; the message names it and its log."""

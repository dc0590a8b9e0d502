"""What can go wrong with the embedded stack."""

from crossfade.core.errors import CrossfadeError


class LocalStackError(CrossfadeError):
    """The embedded stack cannot do what was asked."""


class StackNotRunningError(LocalStackError):
    """No stack runs for the data directory."""


class StackStartError(LocalStackError):
    """A part of the stack did not come up; the message names it and its log."""

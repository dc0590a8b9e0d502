"""How the demo stops: in words, and never in silence."""

import logging

_log = logging.getLogger(__name__)


class StoryError(Exception):
    """The story cannot go on: something promised did not happen. The proof is made all the same."""


class ThreadFailure:
    """What broke a thread, kept for the main thread; nothing is raised where nobody looks."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._error: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """Keep the error; its traceback is shown with --debug."""
        self._error = error
        _log.debug("%s stopped", self._what, exc_info=error, extra={"action": "demo.thread"})

    def check(self) -> None:
        """Raise if the thread broke.

        Raises:
            StoryError: With the kind and text of what broke it.
        """
        if self._error is not None:
            kind = type(self._error).__name__
            raise StoryError(f"{self._what} stopped: {kind}: {self._error}") from self._error

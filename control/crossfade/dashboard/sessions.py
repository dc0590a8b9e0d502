"""Who may see the page: a link with a token, then a cookie. Keys never reach the browser."""

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from crossfade.dashboard.view import Viewer

COOKIE = "crossfade_session"
_MAX_SESSIONS = 200


@dataclass(slots=True)
class BrowserSession:
    """One browser. ``id`` is the cookie, ``form`` proves that a form came from our page."""

    id: str
    person: Viewer
    expires_at: float
    form: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Sessions:
    """Sessions in memory: they end with the server, on sign-out, and after ``lifetime_s``.

    Args:
        lifetime_s: how long one lasts, whatever is done in it.
        clock: monotonic seconds.
    """

    def __init__(self, *, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s, self._clock = lifetime_s, clock
        self._sessions: dict[str, BrowserSession] = {}
        self._tokens: dict[str, Viewer] = {}

    def make_token(self, person: Viewer) -> str:
        """A secret for the link that signs ``person`` in, good until the server ends."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = person
        return token

    def sign_in_by_token(self, token: str) -> BrowserSession | None:
        """Open a session; None for an unknown token."""
        for known, person in self._tokens.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return self.open(person)
        return None

    def open(self, person: Viewer) -> BrowserSession:
        """Open a session for somebody who has proved who they are."""
        self._forget()
        found = BrowserSession(secrets.token_urlsafe(32), person, self._clock() + self._lifetime_s)
        self._sessions[found.id] = found
        return found

    def find(self, cookie: str | None) -> BrowserSession | None:
        """The session of a cookie; None when it has ended."""
        found = self._sessions.get(cookie or "")
        return found if found and self.is_open(found) else None

    def is_open(self, session: BrowserSession) -> bool:
        """Whether a session that a page holds is still good."""
        return session.id in self._sessions and self._clock() < session.expires_at

    def close(self, session: BrowserSession) -> None:
        """Sign out."""
        self._sessions.pop(session.id, None)

    def _forget(self) -> None:
        now = self._clock()
        for key in [k for k, s in self._sessions.items() if s.expires_at <= now]:
            del self._sessions[key]
        while len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

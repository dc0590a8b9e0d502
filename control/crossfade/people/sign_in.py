"""A person who is signed in: tokens, and how they stay fresh. No I/O of its own."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import SecretStr

from crossfade.core.errors import NotSignedInError

MARGIN_S: Final = 60.0
"""An access token that ends within this time is refreshed first; the longest call takes 70 s, but
the server looks at the token when the call begins."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Tokens of one person for one project. ``expires_at`` is on this machine's clock."""

    url: str
    publishable_key: str
    user_id: str
    email: str
    access_token: SecretStr
    refresh_token: SecretStr
    expires_at: float

    def dump(self) -> str:
        """As text for a store; holds the tokens."""
        return json.dumps(
            {
                "url": self.url,
                "publishable_key": self.publishable_key,
                "user_id": self.user_id,
                "email": self.email,
                "access_token": self.access_token.get_secret_value(),
                "refresh_token": self.refresh_token.get_secret_value(),
                "expires_at": self.expires_at,
            }
        )

    @classmethod
    def load(cls, text: str) -> "SignIn | None":
        """From text of ``dump``; None when it is something else."""
        try:
            found = json.loads(text)
            return cls(
                url=str(found["url"]),
                publishable_key=str(found["publishable_key"]),
                user_id=str(found["user_id"]),
                email=str(found["email"]),
                access_token=SecretStr(found["access_token"]),
                refresh_token=SecretStr(found["refresh_token"]),
                expires_at=float(found["expires_at"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


class Store(Protocol):
    """Where sign-ins are kept, one per project."""

    def load(self, url: str | None) -> SignIn | None:
        """The sign-in of this project; None as ``url``: the latest one."""

    def save(self, signed: SignIn) -> str:
        """Keep it, and say where."""

    def forget(self, url: str) -> None:
        """Forget it; no error when there is none."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from refreshing at the same time."""


class Person:
    """The access token of one signed-in person, refreshed when it is about to end.

    Args:
        signed: the sign-in as it was found.
        store: where a refreshed one is kept, for this process and others.
        refresh: changes the refresh token, which works once, for new tokens.
        now: the clock.
    """

    def __init__(
        self,
        signed: SignIn,
        store: Store,
        refresh: Callable[[SignIn], SignIn],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._signed = signed
        self._store = store
        self._refresh = refresh
        self._now = now
        self._lock = threading.Lock()

    def access_token(self) -> str:
        """A token that is valid for some time yet.

        Raises:
            NotSignedInError: the sign-in was revoked or somebody has signed out.
        """
        with self._lock:
            if self._is_old(self._signed):
                self._signed = self._refreshed()
            return self._signed.access_token.get_secret_value()

    def _is_old(self, signed: SignIn) -> bool:
        return signed.expires_at - self._now() < MARGIN_S

    def _refreshed(self) -> SignIn:
        # A refresh token works once: another process may have used it while we waited.
        with self._store.locked():
            found = self._store.load(self._signed.url)
            if found is None or found.user_id != self._signed.user_id:
                raise NotSignedInError(f"{self._signed.email} has signed out of {self._signed.url}")
            if not self._is_old(found):
                return found
            fresh = self._refresh(found)
            self._store.save(fresh)
            return fresh

"""Operators who sign in on the page: their own tokens, their own rights, their own name."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from crossfade.core.errors import CrossfadeError, UnauthorizedError
from crossfade.dashboard import view
from crossfade.dashboard.actions import Actions
from crossfade.dashboard.feed import Feed
from crossfade.dashboard.page import Door
from crossfade.gateway import SupabaseGateway
from crossfade.gateway.auth import SupabaseAuth
from crossfade.people.sign_in import Person, SignIn
from crossfade.project.config import Connection


class _Memory:
    """A store of one sign-in that ends with the session. Implements ``sign_in.Store``."""

    def __init__(self) -> None:
        self._signed: SignIn | None = None

    def load(self, url: str | None) -> SignIn | None:  # noqa: ARG002 - there is one project
        return self._signed

    def save(self, signed: SignIn) -> str:
        self._signed = signed
        return "memory"

    def forget(self, url: str) -> None:  # noqa: ARG002
        self._signed = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield  # nobody else has it


class OperatorSignIn:
    """Email and password -> who that is, and the project with their rights.

    Args:
        url: address of the project.
        publishable_key: a key that may be public.
        interval_s: time between two looks at the project.
    """

    def __init__(self, url: str, publishable_key: str, *, interval_s: float) -> None:
        self._url, self._key, self._interval_s = url, publishable_key, interval_s

    def __call__(self, email: str, password: str) -> tuple[view.Viewer, Door]:
        """Sign in; tokens stay in this process.

        Raises:
            CrossfadeError: wrong password, no operator, or nothing answers.
        """
        with SupabaseAuth(self._url, self._key) as auth:
            signed = auth.sign_in(email, SecretStr(password))
        store = _Memory()
        store.save(signed)
        person = Person(signed, store, self._refresh)
        gateway = SupabaseGateway(
            Connection(
                self._url, SecretStr(self._key), signed.email, "sign-in", person.access_token
            )
        )
        try:
            caller = gateway.whoami()
            if caller.role is None:
                raise UnauthorizedError(f"{signed.email} is no operator of this project")
        except CrossfadeError:
            gateway.close()
            raise
        feed = Feed(gateway, interval_s=self._interval_s)
        feed.start()

        def close() -> None:
            feed.stop()
            gateway.close()

        door = Door(self._url, feed, Actions(gateway), close)
        return view.Viewer(caller.actor, caller.role.value), door

    def _refresh(self, signed: SignIn) -> SignIn:
        with SupabaseAuth(self._url, self._key) as auth:
            return auth.refresh(signed)

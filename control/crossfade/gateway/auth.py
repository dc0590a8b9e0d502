"""Supabase Auth: signing in, refreshing, signing out."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
from pydantic import SecretStr
from supabase_auth import SyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthError, AuthRetryableError
from supabase_auth.types import Session

from crossfade.core.errors import (
    CrossfadeError,
    NotSignedInError,
    ServerFailedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from crossfade.gateway.faults import from_network
from crossfade.people.sign_in import SignIn


class SupabaseAuth:
    """Auth of one project. Keeps nothing: who calls stores the tokens.

    Args:
        url: address of the project.
        publishable_key: any key of the project that may be public.
        transport: replaces the network, in tests of faults.
        now: the clock that ``expires_at`` is on.
    """

    def __init__(
        self,
        url: str,
        publishable_key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._key = publishable_key
        self._now = now
        self._http = httpx.Client(timeout=20, transport=transport)
        self._client = SyncGoTrueClient(
            url=f"{url}/auth/v1",
            headers={"apikey": publishable_key},
            auto_refresh_token=False,
            persist_session=False,
            http_client=self._http,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def sign_in(self, email: str, password: SecretStr) -> SignIn:
        """Change an address and a password for tokens.

        Raises:
            UnauthorizedError: they are not right, or the address is not confirmed.
        """
        try:
            answer = self._client.sign_in_with_password(
                {"email": email, "password": password.get_secret_value()}
            )
        except (AuthError, httpx.HTTPError) as error:
            raise self._fault(error, f"Cannot sign in {email} at {self._url}") from None
        if answer.session is None:
            raise UnexpectedAnswerError(f"{self._url} gave no session to {email}")
        return self._signed(answer.session)

    def refresh(self, signed: SignIn) -> SignIn:
        """Change the refresh token, which works once, for new tokens.

        Raises:
            NotSignedInError: the sign-in was revoked.
        """
        try:
            answer = self._client.refresh_session(signed.refresh_token.get_secret_value())
        except (AuthError, httpx.HTTPError) as error:
            fault = self._fault(error, f"The sign-in of {signed.email} at {self._url} has ended")
            if isinstance(fault, UnauthorizedError):
                raise NotSignedInError(fault.message, code=fault.code) from None
            raise fault from None
        if answer.session is None:
            raise NotSignedInError(f"The sign-in of {signed.email} at {self._url} has ended")
        return self._signed(answer.session)

    def sign_out(self, signed: SignIn) -> None:
        """Revoke this sign-in; other ones of the same person stay."""
        try:
            self._client.admin.sign_out(signed.access_token.get_secret_value(), "local")
        except AuthApiError as error:
            if error.status not in {401, 403, 404}:  # these: it is over already
                raise self._fault(error, f"Cannot sign out at {self._url}") from None
        except (AuthError, httpx.HTTPError) as error:
            raise self._fault(error, f"Cannot sign out at {self._url}") from None

    def _signed(self, session: Session) -> SignIn:
        return SignIn(
            url=self._url,
            publishable_key=self._key,
            user_id=session.user.id,
            email=session.user.email or session.user.id,
            access_token=SecretStr(session.access_token),
            refresh_token=SecretStr(session.refresh_token),
            # expires_in and not expires_at: this machine's clock may be wrong, but it is steady.
            expires_at=self._now() + session.expires_in,
        )

    def _fault(self, error: AuthError | httpx.HTTPError, what: str) -> CrossfadeError:
        if isinstance(error, httpx.HTTPError):
            return from_network(error, self._url)
        if isinstance(error, AuthRetryableError):
            cause = error.__cause__ or error.__context__
            if isinstance(cause, httpx.TransportError):
                return from_network(cause, self._url)
            if not error.status:
                return UnreachableError(f"Nothing answers at {self._url}", hint="Try again")
            return ServerFailedError(f"{what}: HTTP {error.status}", hint="Try again")
        status = error.status if isinstance(error, AuthApiError) else 0
        if status == 429:
            return ServerFailedError(
                f"{what}: too many attempts", hint="Wait a minute", code=error.code or "429"
            )
        if status >= 500:
            return ServerFailedError(f"{what}: {error.message}", code=str(status))
        return UnauthorizedError(
            f"{what}: {error.message}",
            hint="Check the address, the password and SUPABASE_PUBLISHABLE_KEY",
            code=str(error.code or status or ""),
        )

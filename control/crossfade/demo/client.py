"""An app's client of the chat function: one wire version, one way to ask for it, one account."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import httpx

from crossfade.demo.answers import Answer

Style = Literal["default", "header", "url", "accept"]


@dataclass(frozen=True, slots=True)
class Account:
    """A signed-up user of Supabase Auth."""

    user_id: str
    email: str
    token: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire version and how the client asks for it.

    Attributes:
        style: `default` sends nothing and is for V1 only: apps that are older than versions.
    """

    wire: int
    style: Style

    def path(self, resource: str) -> str:
        """Return the path below the function's URL."""
        return f"/v{self.wire}{resource}" if self.style == "url" else resource

    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the version."""
        if self.style == "header":
            return {"X-API-Version": str(self.wire)}
        if self.style == "accept":
            return {"Accept": f"application/json;version={self.wire}"}
        return {}


class ChatClient:
    """Talk to the chat function as one account; never raises for what the server does."""

    def __init__(self, http: httpx.Client, *, base_url: str, key: str, account: Account) -> None:
        self._http = http
        self._base = base_url.rstrip("/")
        self._headers = {"apikey": key, "Authorization": f"Bearer {account.token}"}

    def call(
        self,
        dialect: Dialect,
        method: str,
        resource: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request. A transport error becomes an answer with status 0."""
        sent = {**self._headers, **dialect.headers(), **(headers or {})}
        url = self._base + dialect.path(resource)
        started = time.time()
        try:
            response = self._http.request(method, url, json=body, headers=sent)
            content = _body(response)
        except httpx.HTTPError as error:
            return Answer(0, None, {}, started, time.time(), f"{type(error).__name__}: {error}")
        lower = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, content, lower, started, time.time())


def _body(response: httpx.Response) -> object:
    if not response.content:
        return None
    try:
        body: object = response.json()
    except ValueError:
        return response.text
    return body


def http_client(*, timeout_s: float = 20.0) -> httpx.Client:
    """Return a client for one thread: bounded waits, kept-alive connections, no proxy."""
    return httpx.Client(timeout=timeout_s, trust_env=False)


def sign_up(http: httpx.Client, *, api_url: str, key: str, email: str) -> Account:
    """Sign up with Supabase Auth and return the session.

    Raises:
        httpx.HTTPError: Auth refused or did not answer.
    """
    response = http.post(
        f"{api_url}/auth/v1/signup",
        json={"email": email, "password": f"demo-{email}"},
        headers={"apikey": key},
    )
    response.raise_for_status()
    session = response.json()
    return Account(user_id=session["user"]["id"], email=email, token=session["access_token"])

"""The door: loopback names, our own origin, a session, and headers that browsers obey. ASGI."""

from collections.abc import Sequence
from http.cookies import SimpleCookie
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfade.dashboard.sessions import COOKIE, Sessions

OPEN_PATHS: Final = ("/sign-in", "/metrics")
"""What needs no session. Metrics are numbers only, and scrapers bring no cookie."""
_STATIC = "/_nicegui/"
HEADERS: Final = {
    # Vue compiles its templates in the browser, so eval and inline have to be allowed; nothing may
    # come from, or go to, anywhere else.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self'"
        " 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws:"
        " wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # no-referrer would make the Origin of our own forms null.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Refuses foreign hosts and origins, sends strangers to the sign-in, sets headers.

    Args:
        app: what it protects.
        sessions: who is signed in.
        hosts: names this server may be asked by; anything else is DNS rebinding.
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions, hosts: Sequence[str]) -> None:
        self._app, self._sessions, self._hosts = app, sessions, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, self._with_headers(scope, send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4403})
        else:
            await refusal(scope, receive, self._with_headers(scope, send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = _name(headers.get("host", ""))
        if host not in self._hosts:
            return PlainTextResponse("This is not a name of this server", 421)
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        # Browsers send Origin with every one of these; another page's is not ours.
        if changes and origin is not None and origin.split("://")[-1] != headers.get("host"):
            return PlainTextResponse("Another page may not do this", 403)
        if (
            changes
            and origin is None
            and headers.get("sec-fetch-site") not in (None, "same-origin")
        ):
            return PlainTextResponse("Another page may not do this", 403)
        path: str = scope["path"]
        if path in OPEN_PATHS or path.startswith(_STATIC):
            return None
        if self._sessions.find(cookie_of(headers)) is not None:
            return None
        if scope["type"] == "http" and path == "/" and scope["method"] == "GET":
            return RedirectResponse("/sign-in", 303)
        return PlainTextResponse("Sign in first", 401)

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found[name] = value
                if not str(scope["path"]).startswith(_STATIC):
                    found["Cache-Control"] = "no-store"
            await send(message)

        return wrapped


def _name(host: str) -> str:
    """A host without its port; an IPv6 address keeps its brackets."""
    return host if host.endswith("]") else host.rsplit(":", 1)[0]


def cookie_of(headers: Headers) -> str | None:
    """The session's cookie, if one was sent."""
    jar: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    morsel: Any = jar.get(COOKIE)
    return morsel.value if morsel else None

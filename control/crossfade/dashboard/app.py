"""The dashboard's server: sign-in, metrics, the page. Listens on 127.0.0.1 only."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape

import uvicorn
from fastapi import FastAPI, Form, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from nicegui import app, run, ui

from crossfade.core.errors import CrossfadeError
from crossfade.dashboard.guard import Guard, cookie_of
from crossfade.dashboard.page import ASSETS, Door, Page
from crossfade.dashboard.sessions import COOKIE, BrowserSession, Sessions
from crossfade.dashboard.view import Viewer
from crossfade.views.metrics import CONTENT_TYPE
from crossfade.views.metrics_server import Scraper

_log = logging.getLogger(__name__)
SignIn = Callable[[str, str], tuple[Viewer, Door]]
"""Email and password -> who that is, and the project with their rights; raises CrossfadeError."""
_FAILURES, _FAILURES_S = 10, 300.0


@dataclass(frozen=True, slots=True)
class ServedDashboard:
    """A dashboard that is about to be served. ``link`` signs in whoever opens it."""

    app: Guard
    link: str
    socket: socket.socket

    @property
    def port(self) -> int:
        """Where it listens."""
        number: int = self.socket.getsockname()[1]
        return number

    def run(self) -> None:
        """Serve until told to stop."""
        config = uvicorn.Config(
            self.app, log_level="warning", access_log=False, server_header=False, lifespan="on"
        )
        uvicorn.Server(config).run(sockets=[self.socket])


@dataclass(slots=True)
class Failures:
    """Wrong passwords of late; after some of them nobody may try for a while."""

    times: list[float]

    def is_too_many(self) -> bool:
        """Whether to refuse without looking."""
        now = time.monotonic()
        self.times = [at for at in self.times if now - at < _FAILURES_S]
        return len(self.times) >= _FAILURES


def make_dashboard(
    *,
    door: Door | None,
    person: Viewer,
    scraper: Scraper | None,
    port: int,
    lifetime_s: float = 8 * 3600,
    sign_in: SignIn | None = None,
    refresh_s: float = 1.0,
) -> ServedDashboard:
    """Put everything together, and take the port.

    Args:
        door: the project with the rights of the key that the command has; None: operators only.
        person: who the link signs in.
        scraper: what /metrics answers; None: there is none.
        port: of 127.0.0.1; 0 takes a free one.
        lifetime_s: how long a session lasts.
        sign_in: lets operators in by email and password; None: the link is the only way.
        refresh_s: time between two looks of a page at what was read.
    """
    listening = socket.create_server(("127.0.0.1", port))
    number = listening.getsockname()[1]
    sessions = Sessions(lifetime_s=lifetime_s)
    doors: dict[str, Door] = {}
    web = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    failures = Failures([])

    def leave(key: str) -> None:
        gone = doors.pop(key, None)
        if gone is not None and gone is not door:
            gone.close()

    def enter(session: BrowserSession, found: Door) -> Response:
        doors[session.id] = found
        for gone in [key for key in doors if sessions.find(key) is None]:
            leave(gone)
        answer = RedirectResponse("/", 303)
        # Not Secure: it never leaves loopback, which has no certificate.
        answer.set_cookie(
            COOKIE, session.id, httponly=True, samesite="strict", max_age=int(lifetime_s)
        )
        return answer

    @web.get("/sign-in")
    def show_sign_in(token: str = "", ended: str = "") -> Response:
        if token:
            session = sessions.sign_in_by_token(token) if door else None
            if session and door:
                # The redirect leaves the address with the token out of the history.
                return enter(session, door)
            return _sign_in_page("This link is not good (any more).", bool(sign_in))
        return _sign_in_page("Your session has ended." if ended else "", bool(sign_in))

    @web.post("/sign-in")
    def do_sign_in(email: str = Form(""), password: str = Form("")) -> Response:
        if sign_in is None or failures.is_too_many():
            return _sign_in_page("Too many tries. Wait five minutes.", bool(sign_in))
        try:
            who, found = sign_in(email.strip(), password)
        except CrossfadeError as error:
            failures.times.append(time.monotonic())
            return _sign_in_page(error.line(), with_form=True)
        return enter(sessions.open(who), found)

    @web.post("/sign-out")
    def sign_out(request: Request) -> Response:
        session = sessions.find(cookie_of(request.headers))
        if session:
            sessions.close(session)
            leave(session.id)
        answer = RedirectResponse("/sign-in?ended=1", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @web.get("/metrics")
    def metrics() -> Response:
        if scraper is None:
            return PlainTextResponse("No metrics: started without a secret key", 404)
        return Response(scraper.scrape(), media_type=CONTENT_TYPE)

    @ui.page("/", title="crossfade", dark=None, response_timeout=10)
    async def show_page(request: Request) -> None:
        session = sessions.find(cookie_of(request.headers))
        if session is None or session.id not in doors:
            ui.navigate.to("/sign-in")
            return
        found = doors[session.id]
        with suppress(TimeoutError):
            # Numbers on the first screen, unless the project is slow or gone: then say that.
            await asyncio.wait_for(run.io_bound(found.feed.catch_up), 1.5)
        Page(found, session, sessions, refresh_s).build()

    # Quasar's bar over every request of a script says nothing here, and has no name to be read.
    app.config.quasar_config["loadingBar"]["skipHijack"] = True
    ui.run_with(
        web,
        title="crossfade",
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=15,
        message_history_length=50,
        binding_refresh_interval=None,
        favicon=_ICON,
        # Nearly as small as level 9 makes it, in a third of the time: no visitor waits for zlib.
        gzip_middleware_factory=lambda inner: GZipMiddleware(inner, compresslevel=4),
    )
    token = sessions.make_token(person)
    hosts = ("127.0.0.1", "localhost", "[::1]")
    guarded = Guard(web, sessions=sessions, hosts=hosts)
    return ServedDashboard(guarded, f"http://127.0.0.1:{number}/sign-in?token={token}", listening)


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="6" cy="8" r="5"'
    ' fill="#0072B2"/><circle cx="10" cy="8" r="5" fill="#E69F00" fill-opacity=".8"/></svg>'
)


def _sign_in_page(message: str, with_form: bool) -> HTMLResponse:
    form = (
        '<form method=post action="/sign-in"><label>Email<input name=email type=email'
        " autocomplete=username required></label><label>Password<input name=password type=password"
        " autocomplete=current-password required></label><button class=primary>Sign in</button>"
        "</form>"
        if with_form
        else "<p>Open the link that <code>crossfade dashboard</code> has printed.</p>"
    )
    style = (ASSETS / "page.css").read_text("utf-8")
    return HTMLResponse(
        '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="'
        'width=device-width, initial-scale=1"><title>Sign in, crossfade</title>'
        f"<style>{style} main {{ max-width: 420px; margin: 12vh auto; padding: 24px; }}"
        " form, label { display: grid; gap: 8px; }</style>"
        f"<main class=box><h1>crossfade</h1><p role=alert>{escape(message)}</p>{form}</main></html>"
    )

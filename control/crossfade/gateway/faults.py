"""HTTP outcomes -> exceptions, and which of them are worth another try. Knows no RPC."""

import json
import threading
from collections.abc import Mapping
from typing import Final

import httpx

from crossfade.core.errors import (
    Blocker,
    ConfigError,
    CrossfadeError,
    NotInstalledError,
    ServerFailedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownCallError,
    UnreachableError,
    refusal,
)

TIMEOUT: Final = httpx.Timeout(70, connect=5)
"""Longer than the 60 s cap that the hosted API puts on a statement."""

_INSTALL = (
    "Run in the project: crossfade install, then: supabase db push; where the database has a newer"
    " release than this command: pip install --upgrade crossfade"
)
_MISSING = frozenset({"PGRST202", "PGRST204", "PGRST205", "42883", "42P01", "42703", "3F000"})
_BUSY = frozenset({"57014", "55P03", "53300", "PGRST000", "PGRST001", "PGRST002", "PGRST003"})


class LastStatus:
    """Remembers the HTTP status per thread, which ``APIError`` does not carry."""

    def __init__(self) -> None:
        self._local = threading.local()

    def note(self, response: httpx.Response) -> None:
        """Response hook of the httpx client."""
        self._local.status = response.status_code

    def take(self) -> int:
        """The status of this thread's last answer; 0 when there was none."""
        status: int = getattr(self._local, "status", 0)
        self._local.status = 0
        return status


def from_network(error: httpx.HTTPError | httpx.InvalidURL, url: str) -> CrossfadeError:
    """Name the address and the way out."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return ConfigError(f'SUPABASE_URL "{url}" is not a URL')
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        hint = "Check SUPABASE_URL and the network; an embedded stack starts with: crossfade up"
        unreachable = UnreachableError(f"Nothing answers at {url}", hint=hint)
        unreachable.sent = False
        return unreachable
    if isinstance(error, httpx.TimeoutException):
        return ServerFailedError(
            f"{url} did not answer in time", hint="Try again; it may be overloaded"
        )
    return UnreachableError(f"The connection to {url} broke", hint="Try again")


def from_api(fields: Mapping[str, object], *, status: int, url: str, what: str) -> CrossfadeError:
    """Turn an error answer of the Data API into an exception.

    Args:
        fields: ``code``, ``message``, ``details``, ``hint`` of the body.
        status: HTTP status, 0 when unknown.
        url: the project's address.
        what: the function or table that was asked, for example ``crossfade.read_flags``.
    """
    code, message = _text(fields.get("code")), _text(fields.get("message"))
    details = _object(fields.get("details"))
    if "code" in details:
        return refusal(
            _text(details["code"]),
            message,
            hint=_text(fields.get("hint")),
            blockers=_blockers(details),
        )
    return _from_code(code, status, url, what) or _other(fields, code, status, url, what)


def _from_code(code: str, status: int, url: str, what: str) -> CrossfadeError | None:
    if code == "PGRST106" or status == 406:
        return NotInstalledError(
            f'Schema "crossfade" is not exposed at {url}',
            hint="Add it to the exposed schemas (project settings, Data API; locally [api] schemas"
            " in supabase/config.toml)",
            code=code,
        )
    if code in _MISSING:
        return UnknownCallError(
            f"{what} does not exist at {url} as this command calls it", hint=_INSTALL, code=code
        )
    # 42501 first: with an anonymous key it comes with status 401, and the key itself is known.
    if status == 403 or code == "42501":
        return UnauthorizedError(
            f"The key may not use {what}",
            hint="Use the secret key (sb_secret_...), not a publishable one; if it is one, the"
            " grants are missing: apply the migrations again",
            code=code or "403",
        )
    if status == 401 or code.startswith("PGRST30"):
        return UnauthorizedError(
            f"{url} refused the key",
            hint="Set SUPABASE_SECRET_KEY to the secret key of this very project",
            code=code or "401",
        )
    return None


def _other(
    fields: Mapping[str, object], code: str, status: int, url: str, what: str
) -> CrossfadeError:
    message = _text(fields.get("message")) or f"HTTP {status}"
    if status >= 500 or code in _BUSY or (code.isdigit() and len(code) == 3 and code >= "500"):
        return ServerFailedError(f"{what} failed at {url}: {message}", code=code or str(status))
    if status == 404 or code == "404":
        return NotInstalledError(
            f"No Data API at {url}", hint="Check SUPABASE_URL: https://<project>.supabase.co"
        )
    hint = _text(fields.get("hint"))
    return UnexpectedAnswerError(
        f"{what} was refused: {message}", hint=hint, code=code or str(status)
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _object(value: object) -> Mapping[str, object]:
    """``details`` is a JSON object as text when one of our functions raised."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _blockers(details: Mapping[str, object]) -> tuple[Blocker, ...]:
    rows = details.get("blockers")
    if not isinstance(rows, list):
        return ()
    return tuple(
        Blocker(_text(row.get("code")), _text(row.get("message")), _text(row.get("hint")))
        for row in rows
        if isinstance(row, dict)
    )

"""One project's Data API: RPC calls and table reads with retries, and the HTTP broadcast."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import httpx
import tenacity
from postgrest import APIError, SyncPostgrestClient
from supabase import ClientOptions, create_client

from crossfade.core import contract
from crossfade.core.contract import Event
from crossfade.core.errors import (
    NotSignedInError,
    ServerFailedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from crossfade.gateway.faults import TIMEOUT, LastStatus, from_api, from_network
from crossfade.gateway.rows import Json, parse
from crossfade.project.config import Connection

T = TypeVar("T")

ATTEMPTS: Final = 5
"""With the waits between them about three seconds: a restart of the API is outlived."""
NOT_REPEATABLE: Final = frozenset(
    {
        "apply_changes",
        "control_run",
        "rearm",
        "record_exposures",
        "record_requests",
        "record_verdicts",
        "restore_snapshot",
        "rollback",
        "schedule_changes",
        "set_stage",
        "take_snapshot",
        "unregister_pair",
        "verify_some",
    }
)
"""RPCs that must not be sent again when the first one may have been committed."""


class DataApi:
    """Schema ``crossfade`` of one project. Safe to share between threads."""

    def __init__(
        self,
        connection: Connection,
        *,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        self.url = connection.url
        self.is_person = connection.token is not None
        self._key = connection.key
        self._token = connection.token
        self._sleep = sleep
        self._status = LastStatus()
        self._http = httpx.Client(
            timeout=TIMEOUT,
            transport=transport,
            event_hooks={"request": [self._authorize], "response": [self._status.note]},
        )
        options = ClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,  # done here, because POST needs it as well
            headers={contract.ACTOR_HEADER: _header(connection.actor)},
            httpx_client=self._http,
        )
        client = create_client(self.url, self._key.get_secret_value(), options)
        self._client: SyncPostgrestClient = client.schema(contract.SCHEMA)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def rpc(self, name: str, /, **params: object) -> Json:
        """Call a function of schema ``crossfade``."""
        return self.call(name, params, repeatable=name not in NOT_REPEATABLE)

    def call(self, name: str, params: Mapping[str, object], *, repeatable: bool) -> Json:
        """Call a function; ``repeatable``: again when the first call may have been committed."""
        what = f"crossfade.{name}"

        def send() -> object:
            return self._send_rpc(name, params)

        answer = self._attempt(send, what, repeatable=repeatable)
        if not isinstance(answer, dict):
            raise UnexpectedAnswerError(
                f"{what} at {self.url} did not answer a JSON object",
                hint="Check that SUPABASE_URL is the address of a Supabase project",
            )
        return answer

    def _authorize(self, request: httpx.Request) -> None:
        # At each request and not in the client's headers: a token lasts an hour, a monitor longer.
        if self._token is not None:
            request.headers["authorization"] = f"Bearer {self._token()}"

    def _send_rpc(self, name: str, params: Mapping[str, object]) -> object:
        # A person's calls go through the one function that asks for the role.
        sent = {"rpc": name, "params": params} if self.is_person else params
        door = "operate" if self.is_person else name
        return self._client.rpc(door, cast(Any, sent)).execute().data

    def ask(self, kind: type[T], name: str, /, **params: object) -> T:
        """Call a function whose answer is one record."""
        return parse(kind, self.rpc(name, **params))

    def select(
        self,
        table: str,
        columns: str = "*",
        *,
        limit: int,
        order: str | None = None,
        since: tuple[str, datetime] | None = None,
        **equal: object,
    ) -> list[Json]:
        """Read rows, newest first by ``order``; None filters are left out.

        ``since``: a column and its smallest value.
        """
        query = self._client.table(table).select(columns)
        for column, value in equal.items():
            if value is not None:
                query = query.eq(column, value)
        if since:
            query = query.gte(since[0], since[1].isoformat())
        if order:
            query = query.order(order, desc=True)
        query = query.limit(limit)
        rows = self._attempt(lambda: query.execute().data, f"crossfade.{table}", repeatable=True)
        if not isinstance(rows, list):
            raise UnexpectedAnswerError(f"crossfade.{table} at {self.url} did not answer rows")
        return cast(list[Json], rows)

    def broadcast(self, event: Event, payload: Mapping[str, str | int | bool]) -> None:
        """Send one message on the control topic; raises what went wrong."""
        message = {
            "topic": contract.TOPIC,
            "event": event.value,
            "payload": dict(payload),
            "private": True,
        }
        try:
            answer = self._http.post(
                f"{self.url}/realtime/v1/api/broadcast",
                headers={"apikey": self._key.get_secret_value()},
                json={"messages": [message]},
                timeout=3,
            )
        except httpx.HTTPError as error:
            raise from_network(error, self.url) from error
        if answer.status_code != httpx.codes.ACCEPTED:
            raise UnreachableError(f"Realtime answered HTTP {answer.status_code} to the broadcast")

    def _attempt(self, send: Callable[[], T], what: str, *, repeatable: bool) -> T:
        def once() -> T:
            self._status.take()
            try:
                return send()
            except APIError as error:
                status = self._status.take()
                fault = from_api(error.json(), status=status, url=self.url, what=what)
                if self.is_person and type(fault) is UnauthorizedError:
                    raise NotSignedInError(
                        f"{self.url} refused the sign-in", code=fault.code
                    ) from None
                raise fault from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise from_network(error, self.url) from None

        def again(error: BaseException) -> bool:
            if isinstance(error, UnreachableError) and not error.sent:
                return True
            return repeatable and isinstance(error, UnreachableError | ServerFailedError)

        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=0.2, max=2) + tenacity.wait_random(0, 0.1),
            retry=tenacity.retry_if_exception(again),
            sleep=self._sleep,
            reraise=True,
        )
        return attempts(once)


def _header(text: str) -> str:
    """Header values are ASCII; a name that is not would break every request."""
    return text.encode("ascii", "replace").decode().replace("\n", " ")[:200]

"""One Realtime session on the control topic, over the official client."""

import asyncio
import contextlib
from typing import Any

from realtime import RealtimeSubscribeStates
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from crossfade.core import contract
from crossfade.monitor.listening import PROBE, Heard, Lost
from crossfade.project.config import Connection


class RealtimeSession:
    """A joined channel.

    The client never reconnects by itself (it would stop for good after some tries, and it never
    joins again after a system error): whatever happens ends the session, and a new one is made.
    """

    def __init__(self, connection: Connection, client: AsyncClient) -> None:
        self._connection = connection
        self._client = client
        # Callbacks only put: an exception in one would silently end all delivery.
        self._queue: asyncio.Queue[Heard | Lost] = asyncio.Queue()
        # A signed-in viewer may not send, and a refused message is dropped without a word.
        self.can_probe = connection.token is None
        options: Any = {"config": {"private": True, "broadcast": {"ack": False, "self": True}}}
        self._channel = client.channel(contract.TOPIC, options)

    async def next(self) -> Heard | Lost:
        """Wait for what comes next."""
        return await self._queue.get()

    async def probe(self) -> None:
        """Send an event that comes back to its sender."""
        await self._channel.send_broadcast(PROBE, {})

    async def close(self) -> None:
        """Leave the channel and close the socket."""
        with contextlib.suppress(Exception):
            await self._client.remove_all_channels()
        await self._client.realtime.close()

    async def join(self) -> None:
        """Join; raises the reason when that is refused."""
        if self._connection.token is not None:
            token = await asyncio.to_thread(self._connection.token)
            await self._client.realtime.set_auth(token)
        self._channel.on_broadcast("*", self._on_broadcast)
        self._channel.on_system(self._on_system)
        outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def on_status(status: RealtimeSubscribeStates, error: Exception | None) -> None:
            if status is RealtimeSubscribeStates.SUBSCRIBED:
                if not outcome.done():
                    outcome.set_result(None)
                return
            reason = error or ConnectionError(f"the channel is {status.value}")
            if outcome.done():
                self._queue.put_nowait(Lost(str(reason) or status.value))
            else:
                outcome.set_result(reason)

        await self._channel.subscribe(on_status)
        refused = await outcome
        if refused is not None:
            raise refused

    def _on_broadcast(self, message: Any) -> None:
        payload = message.get("payload")
        found = payload if isinstance(payload, dict) else {}
        self._queue.put_nowait(Heard(str(message.get("event", "")), found))

    def _on_system(self, message: Any) -> None:
        status = getattr(message, "status", None) or (
            message.get("status") if isinstance(message, dict) else None
        )
        if status == "error":
            self._queue.put_nowait(Lost(f"the server ended the channel: {message}"))


async def open_session(connection: Connection) -> RealtimeSession:
    """Connect and join the control topic; raises when either is refused."""
    client = await acreate_client(
        connection.url,
        connection.key.get_secret_value(),
        AsyncClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            realtime={"auto_reconnect": False, "max_retries": 1},
        ),
    )
    session = RealtimeSession(connection, client)
    try:
        await session.join()
    except BaseException:
        with contextlib.suppress(Exception):
            await session.close()
        raise
    return session

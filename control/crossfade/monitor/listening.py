"""Hear what happens to flags and switches, whatever the connection does. No I/O of its own.

A broadcast is a hint and may be lost; the database is read again and again, so that nothing stays
unnoticed. A session that says nothing is asked for a sign of life, and replaced when it gives none.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from crossfade.core.contract import Event
from crossfade.core.errors import CrossfadeError, redact
from crossfade.flags.model import FlagState

PROBE: Final = "probe"
"""An event of our own, which nobody else subscribes to."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One broadcast."""

    event: str
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is of no more use."""

    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell. ``source``: broadcast, polling, or listener for its own state."""

    at: datetime
    source: str
    event: str
    payload: Mapping[str, object]


class JoinedChannel(Protocol):
    """One joined channel. ``gateway.realtime`` has the real one."""

    can_probe: bool

    async def next(self) -> Heard | Lost:
        """Wait for what comes next; safe to cancel."""

    async def probe(self) -> None:
        """Send an event that comes back; and take a fresh token along."""

    async def close(self) -> None:
        """End it."""


@dataclass(slots=True)
class Listener:
    """Listens until stopped, and never gives up.

    Args:
        open_session: joins the channel; may raise anything.
        poll: reads the flags; called in a thread.
        notify: is told; an exception in it is told too and harms nothing.
    """

    open_session: Callable[[], Awaitable[JoinedChannel]]
    poll: Callable[[], FlagState]
    notify: Callable[[Notice], None]
    probe_every_s: float = 20
    answer_within_s: float = 10
    open_within_s: float = 20
    poll_every_s: float = 5
    longest_pause_s: float = 15
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    _version: int | None = None
    _engaged: dict[str, bool] = field(default_factory=dict)
    _can_read: bool = True

    async def run(self) -> None:
        """Listen and read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._read())

    # Broadcasts ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                # Not wait_for: on Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(self.open_within_s):
                    session = await self.open_session()
            except Exception as error:
                # Whatever the library or the network comes up with: it is tried again.
                self._tell("listener", "not_joined", {"reason": _why(error)})
            else:
                self._tell("listener", "joined", {})
                failures = 0
                reason = await self._follow(session)
                self._tell("listener", "lost", {"reason": reason})
            failures += 1
            # Jitter: a thousand listeners of one server must not come back in one moment.
            pause = min(self.longest_pause_s, 0.5 * 2.0 ** min(failures, 10))
            await self.sleep(pause * (0.5 + self.jitter() / 2))

    async def _follow(self, session: JoinedChannel) -> str:
        asked = False
        try:
            while True:
                wait_s = self.answer_within_s if asked else self.probe_every_s
                try:
                    async with asyncio.timeout(wait_s):
                        found = await session.next()
                except TimeoutError:
                    if asked:
                        return f"no sign of life for {self.answer_within_s:g} s"
                    if session.can_probe:
                        async with asyncio.timeout(self.answer_within_s):
                            await session.probe()
                        asked = True
                    continue
                if isinstance(found, Lost):
                    return found.reason
                asked = False
                if found.event != PROBE:
                    self._hear(found)
        except Exception as error:
            return _why(error)
        finally:
            await _close(session)

    def _hear(self, found: Heard) -> None:
        if found.event == Event.KILL:
            name, engaged = found.payload.get("name"), found.payload.get("engaged")
            if isinstance(name, str) and isinstance(engaged, bool):
                self._engaged[name] = engaged
        version = found.payload.get("flags_version")
        if isinstance(version, int) and version > (self._version or 0):
            self._version = version
        self._tell("broadcast", found.event, found.payload)

    # Reading -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            try:
                state = await asyncio.to_thread(self.poll)
            except CrossfadeError as error:
                if self._can_read:
                    self._tell("listener", "not_read", {"reason": error.line()})
                self._can_read = False
            else:
                if not self._can_read:
                    self._tell("listener", "read_again", {})
                self._can_read = True
                self._compare(state)
            await self.sleep(self.poll_every_s)

    def _compare(self, state: FlagState) -> None:
        """Tell what no broadcast has told. The first reading tells what is engaged."""
        version = state.flags_version
        for switch in state.kill_switches:
            if switch.engaged != self._engaged.get(switch.name, False):
                payload = {
                    "flags_version": version,
                    "name": switch.name,
                    "engaged": switch.engaged,
                }
                self._tell("polling", Event.KILL, payload)
        self._engaged = {switch.name: switch.engaged for switch in state.kill_switches}
        if self._version is not None and version > self._version:
            self._tell("polling", Event.FLAGS_CHANGED, {"flags_version": version})
        self._version = max(version, self._version or 0)

    def _tell(self, source: str, event: str, payload: Mapping[str, object]) -> None:
        notice = Notice(self.now(), source, str(event), payload)
        try:
            self.notify(notice)
        except BrokenPipeError:
            raise  # nobody reads any more
        except Exception as error:
            # One that cannot be shown must not end listening, as it would in the library.
            self.notify(Notice(self.now(), "listener", "not_told", {"reason": _why(error)}))


async def _close(session: JoinedChannel) -> None:
    try:
        async with asyncio.timeout(3):
            await session.close()
    except Exception as error:
        # It is being thrown away: a broken one cannot say goodbye.
        del error


def _why(error: BaseException) -> str:
    text = error.line() if isinstance(error, CrossfadeError) else redact(str(error))
    return " ".join(text.split())[:200] or type(error).__name__

"""The listener outlives everything that ends a Realtime client (reference: its known failures)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from crossfade.core.contract import Event
from crossfade.core.errors import UnreachableError
from crossfade.flags.model import FlagState, KillSwitch
from crossfade.monitor.listening import PROBE, Heard, Listener, Lost, Notice

KILL = Heard("kill", {"flags_version": 2, "name": "stop", "engaged": True})


@dataclass
class FakeSession:
    """Says what it is told to, then nothing more."""

    says: list[Heard | Lost] = field(default_factory=list)
    can_probe: bool = True
    answers: bool = False
    """Gives a sign of life when asked for one."""
    probes: int = 0
    closed: bool = False

    async def next(self) -> Heard | Lost:
        if self.says:
            return self.says.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def probe(self) -> None:
        self.probes += 1
        if self.answers:
            self.says.append(Heard(PROBE, {}))

    async def close(self) -> None:
        self.closed = True


class Broken(FakeSession):
    async def probe(self) -> None:
        raise ConnectionResetError("reset by peer")

    async def close(self) -> None:
        raise RuntimeError("cannot even close")


def state(version: int = 1, **engaged: bool) -> FlagState:
    switches = tuple(KillSwitch(name, engaged=on) for name, on in engaged.items())
    return FlagState(version, {}, switches)


@dataclass
class Run:
    """One listener with scripted sessions and readings, run until enough was told."""

    sessions: list[FakeSession | Exception] = field(default_factory=list)
    readings: list[FlagState | Exception] = field(default_factory=list)
    told: list[Notice] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    tell: Callable[[Notice], None] = lambda _: None
    opened: int = 0

    async def open(self) -> FakeSession:
        self.opened += 1
        found = self.sessions.pop(0) if self.sessions else FakeSession(can_probe=False)
        if isinstance(found, Exception):
            raise found
        return found

    def poll(self) -> FlagState:
        found = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(found, Exception):
            raise found
        return found

    def until(self, done: Callable[["Run"], bool]) -> "Run":
        if not self.readings:
            self.readings = [state(stop=False)]

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        def notify(notice: Notice) -> None:
            self.told.append(notice)
            self.tell(notice)

        async def main() -> None:
            listener = Listener(self.open, self.poll, notify, probe_every_s=0.005,
                                answer_within_s=0.005, sleep=sleep, jitter=lambda: 1.0)  # fmt: skip
            task = asyncio.create_task(listener.run())
            async with asyncio.timeout(10):
                while not done(self) and not task.done():
                    await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        return self

    def events(self, source: str) -> list[str]:
        return [notice.event for notice in self.told if notice.source == source]


def reasons(run: Run) -> list[object]:
    return [notice.payload["reason"] for notice in run.told if "reason" in notice.payload]


@pytest.mark.parametrize(
    "failure",
    [
        Lost("the server ended the channel: Too many messages per second"),
        Lost("Token has expired 5 seconds ago"),
        Lost("CLOSED"),
    ],
)
def test_an_ended_channel_is_replaced_by_a_new_one(failure: Lost) -> None:
    first, second = FakeSession([failure]), FakeSession([KILL], can_probe=False)
    run = Run([first, second]).until(lambda r: "kill" in r.events("broadcast"))
    assert run.events("listener")[:3] == ["joined", "lost", "joined"]
    assert first.closed
    assert failure.reason in reasons(run)


def test_it_never_gives_up_on_an_unreachable_server() -> None:
    refused = [OSError("refused") for _ in range(40)]
    run = Run([*refused, FakeSession([KILL], can_probe=False)])
    run.until(lambda r: "kill" in r.events("broadcast"))
    assert run.opened == 41
    waits = [pause for pause in run.pauses if pause != 5]
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == 15


def test_a_session_that_lives_but_delivers_nothing_is_found_out() -> None:
    # What an exception in a callback does to the official client: connected, joined, and deaf.
    deaf, good = FakeSession(), FakeSession([KILL], can_probe=False)
    run = Run([deaf, good]).until(lambda r: "kill" in r.events("broadcast"))
    assert (deaf.probes, deaf.closed) == (1, True)
    assert any("no sign of life" in str(reason) for reason in reasons(run))


def test_a_quiet_session_that_answers_is_kept() -> None:
    quiet = FakeSession(answers=True)
    run = Run([quiet]).until(lambda _: quiet.probes >= 3)
    assert run.opened == 1
    assert run.events("broadcast") == []  # the probe is nobody's business


def test_a_session_that_breaks_while_it_is_asked_or_closed_is_replaced() -> None:
    run = Run([Broken(), FakeSession([KILL], can_probe=False)])
    run.until(lambda r: "kill" in r.events("broadcast"))
    assert "reset by peer" in reasons(run)


def test_who_may_not_send_is_never_asked_to() -> None:
    viewer = FakeSession(can_probe=False)
    readings: list[FlagState | Exception] = [state(n) for n in range(1, 60)]
    run = Run([viewer], readings).until(lambda r: len(r.pauses) > 40)
    assert (viewer.probes, run.opened) == (0, 1)


def test_what_no_broadcast_told_is_noticed_by_reading() -> None:
    readings = [
        state(1, stop=False),
        state(2, stop=True),
        state(3, stop=False),
        state(4, stop=False),
    ]
    run = Run([], [*readings]).until(lambda r: len(r.events("polling")) >= 5)
    kills = [n.payload["engaged"] for n in run.told if n.event == Event.KILL]
    assert kills == [True, False]
    versions = [n.payload["flags_version"] for n in run.told if n.event == Event.FLAGS_CHANGED]
    assert versions == [2, 3, 4]


def test_what_a_broadcast_told_is_not_told_again_by_reading() -> None:
    heard: list[Mapping[str, object]] = []

    def tell(notice: Notice) -> None:
        if notice.event == Event.KILL:
            heard.append(notice.payload)
            run.readings = [state(2, stop=True)]

    run = Run([FakeSession([KILL], can_probe=False)], [state(1, stop=False)], tell=tell)
    run.until(lambda r: bool(heard) and len(r.pauses) > 20)
    assert len(heard) == 1
    assert run.events("polling") == []


def test_what_is_engaged_already_is_told_first() -> None:
    run = Run([], [state(5, stop=True)]).until(lambda r: bool(r.events("polling")))
    assert run.events("polling") == ["kill"]


def test_an_unreadable_database_is_told_once_and_its_return_too() -> None:
    down = [UnreachableError("Nothing answers") for _ in range(5)]
    run = Run([], [state(1), *down, state(2)])
    run.until(lambda r: "read_again" in r.events("listener"))
    assert run.events("listener").count("not_read") == 1


def test_an_exception_of_who_is_told_ends_nothing() -> None:
    def tell(notice: Notice) -> None:
        if notice.event == "kill" and notice.source == "broadcast":
            raise ValueError("cannot print that")

    again = Heard("flags_changed", {"flags_version": 9})
    run = Run([FakeSession([KILL, again], can_probe=False)], tell=tell)
    run.until(lambda r: "flags_changed" in r.events("broadcast"))
    assert "cannot print that" in reasons(run)
    assert run.opened == 1


def test_a_secret_in_an_error_is_not_told() -> None:
    run = Run([OSError("wss://x/?apikey=sb_secret_0123456789")])
    run.until(lambda r: "not_joined" in r.events("listener"))
    assert "0123456789" not in str(reasons(run))

"""Listening: ``events`` and ``kill watch``."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from crossfade.cli.options import AsJson
from crossfade.cli.output import say, show, to_json
from crossfade.cli.session import session
from crossfade.core.contract import Event
from crossfade.monitor.listening import Listener, Notice

Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0.1, help="Stop after so long; else on Ctrl-C.")
]


def events(context: typer.Context, seconds: Seconds = None, as_json: AsJson = False) -> None:
    """Print every change of flags, switches, stages as it happens.

    Listens to Realtime and reads the database every few seconds, so that nothing is missed when a
    broadcast is; the state of the connection goes to stderr. One line, or JSON object, an event.

    Example: crossfade events --json
    """
    _listen(context, lambda _: True, seconds=seconds, as_json=as_json)


def watch(context: typer.Context, seconds: Seconds = None, as_json: AsJson = False) -> None:
    """Print kill switches as they are engaged and released, those engaged now first.

    Example: crossfade kill watch
    """
    _listen(context, lambda notice: notice.event == Event.KILL, seconds=seconds, as_json=as_json)


def _listen(
    context: typer.Context,
    wanted: Callable[[Notice], bool],
    *,
    seconds: float | None,
    as_json: bool,
) -> None:
    from crossfade.gateway.realtime import open_session  # slow to import, so only when needed

    here = session(context)
    opened = here.gateway()
    connection = here.connection()

    def notify(notice: Notice) -> None:
        if notice.source == "listener":
            say(f"{notice.at:%H:%M:%S} {notice.event.replace('_', ' ')}{_reason(notice.payload)}")
        elif wanted(notice):
            _print(notice, as_json=as_json)

    listener = Listener(lambda: open_session(connection), opened.read_flags, notify)

    async def run() -> None:
        try:
            async with asyncio.timeout(seconds):
                await listener.run()
        except TimeoutError:
            pass

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        say("Stopped")
        raise typer.Exit(130) from None


def _reason(payload: Mapping[str, object]) -> str:
    return f": {payload['reason']}" if "reason" in payload else ""


def _print(notice: Notice, *, as_json: bool) -> None:
    if as_json:
        value = {
            "at": notice.at.isoformat(),
            "source": notice.source,
            "event": notice.event,
            "payload": dict(notice.payload),
        }
        show(to_json(value, indent=None))
        return
    if notice.event == Event.KILL:
        state = "engaged" if notice.payload.get("engaged") else "released"
        text = f"{notice.payload.get('name')} {state}"
    else:
        text = " ".join(f"{name}={value}" for name, value in notice.payload.items() if name != "id")
    late = " (noticed by polling)" if notice.source == "polling" else ""
    show(f"{notice.at:%H:%M:%S} {notice.event} {text}{late}")

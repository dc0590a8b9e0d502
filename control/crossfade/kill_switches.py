"""Engage and release kill switches."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from crossfade.contract import Event
from crossfade.errors import CrossfadeError
from crossfade.flags import KillSwitch

if TYPE_CHECKING:
    from crossfade.ports import Controls

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engaged:
    """A kill switch after engaging, and how long that took.

    ``in_flight`` is true when a V2 write that began before the kill may still have committed after
    it: the wait for such writers ended first. ``commit_ms`` is the time from the call to the
    committed answer as seen here; ``broadcast_ms`` None means that the HTTP hint was not sent.
    """

    kill_switch: KillSwitch
    changed: bool
    committed_at: datetime
    flags_version: int
    waited_ms: float = 0.0
    in_flight: bool = False
    commit_ms: float = 0.0
    broadcast_ms: float | None = None
    broadcast_error: str | None = None


def engage(
    gateway: "Controls",
    name: str,
    *,
    reason: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Engaged:
    """Engage ``name`` and send the broadcast. Idempotent; engaging again broadcasts again.

    The database already refuses forbidden writes when the first call returns; the broadcast only
    makes edge functions notice sooner, so its failure is reported and never raised.

    Raises:
        UnknownNameError: no such switch; nothing was changed.
    """
    start = clock()
    engaged = gateway.engage_kill_switch(name, reason=reason)
    committed = clock()
    engaged = replace(engaged, commit_ms=(committed - start) * 1000)
    payload: dict[str, str | int | bool] = {
        "flags_version": engaged.flags_version,
        "name": name,
        "engaged": True,
    }
    try:
        gateway.broadcast(Event.KILL, payload)
    except CrossfadeError as error:
        _log.warning("kill broadcast failed: %s", error.line(), extra={"action": "kill.broadcast"})
        return replace(engaged, broadcast_error=error.line())
    return replace(engaged, broadcast_ms=(clock() - committed) * 1000)

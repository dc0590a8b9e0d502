"""Engage and release kill switches."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from crossfade.core.contract import Event
from crossfade.core.errors import CrossfadeError
from crossfade.flags.model import Engaged

if TYPE_CHECKING:
    from crossfade.flags.port import Controls

_log = logging.getLogger(__name__)


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

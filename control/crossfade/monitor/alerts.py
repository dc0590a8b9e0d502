"""Tell people: what is told once, how loud, and to whom. ``alert_targets`` has the ways out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from crossfade.core.escaping import escaped

_log = logging.getLogger(__name__)

Figure = str | float | int | bool | None
"""A number or word that a decision was made on."""


class Severity(StrEnum):
    """How loud."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the quietest."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Alert:
    """One message. ``key`` is the same for the same cause, so that it is sent once.

    ``figures`` are what was decided on. ``over`` is set when the cause is gone: how loud it was.
    """

    severity: Severity
    key: str
    title: str
    body: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    over: Severity | None = None

    @property
    def loudest(self) -> Severity:
        """Who heard that it began also hears that it is over."""
        return max(self.severity, self.over or self.severity, key=lambda item: item.rank)


class Channel(Protocol):
    """Somewhere an alert can go."""

    def send(self, alert: Alert, /) -> None:
        """Send it; may raise."""


class LogChannel:
    """Writes to the log."""

    def send(self, alert: Alert) -> None:
        """Log with the level of its severity."""
        level = logging.INFO if alert.severity is Severity.INFO else logging.WARNING
        if alert.severity is Severity.CRITICAL:
            level = logging.ERROR
        _log.log(level, "%s: %s", alert.title, alert.body, extra={"action": f"alert.{alert.key}"})


def _inert(alert: Alert) -> Alert:
    """The alert with nothing in it that a terminal, a pager or a log would obey."""
    figures = {
        escaped(name): escaped(value) if isinstance(value, str) else value
        for name, value in alert.figures.items()
    }
    title, body = escaped(alert.title), escaped(alert.body)
    return replace(alert, key=escaped(alert.key), title=title, body=body, figures=figures)


class Alerts:
    """Sends each alert once per cause until the cause is gone. A broken channel never stops us.

    A slow one would: what may be slow goes into ``alert_targets.Background``.
    """

    def __init__(self, channels: Sequence[Channel] = ()) -> None:
        self._channels = tuple(channels) or (LogChannel(),)
        self._open: dict[str, Severity] = {}

    def raise_(self, alert: Alert) -> bool:
        """Send ``alert`` unless one of its key is open and as loud; say whether it was sent."""
        known = self._open.get(alert.key)
        if known is not None and known.rank >= alert.severity.rank:
            return False
        self._open[alert.key] = alert.severity
        self._send(alert)
        return True

    def clear(self, key: str, *, title: str) -> bool:
        """The cause is gone: say so once."""
        known = self._open.pop(key, None)
        if known is None:
            return False
        self._send(Alert(Severity.INFO, key, title, "is over", over=known))
        return True

    def close(self, timeout_s: float = 10) -> None:
        """Wait for what is still being sent, at most so long."""
        for channel in self._channels:
            close = getattr(channel, "close", None)
            if close is not None:
                close(timeout_s)

    def _send(self, alert: Alert) -> None:
        alert = _inert(alert)
        for channel in self._channels:
            try:
                channel.send(alert)
            except Exception as error:
                _log.warning(
                    "alert channel %s failed: %s",
                    type(channel).__name__,
                    type(error).__name__,  # the text could hold the webhook's address, a secret
                    extra={"action": "alert.failed"},
                )

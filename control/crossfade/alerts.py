"""Tell people: the log always, and a webhook when one is set."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol

import httpx

_log = logging.getLogger(__name__)


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
    """One message. ``key`` is the same for the same cause, so that it is sent once."""

    severity: Severity
    key: str
    title: str
    body: str = ""


class Channel(Protocol):
    """Somewhere an alert can go."""

    def send(self, alert: Alert) -> None:
        """Send it; may raise."""


class LogChannel:
    """Writes to the log."""

    def send(self, alert: Alert) -> None:
        """Log with the level of its severity."""
        level = logging.INFO if alert.severity is Severity.INFO else logging.WARNING
        if alert.severity is Severity.CRITICAL:
            level = logging.ERROR
        _log.log(level, "%s: %s", alert.title, alert.body, extra={"action": f"alert.{alert.key}"})


class WebhookChannel:
    """Posts JSON ``{severity, key, title, body, text}``; ``text`` is what Slack and others show."""

    def __init__(self, url: str, *, client: httpx.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx.Client(timeout=5)

    def send(self, alert: Alert) -> None:
        """Post; raises when it is not accepted."""
        text = f"[{alert.severity}] {alert.title}: {alert.body}"
        answer = self._client.post(self._url, json={**asdict(alert), "text": text})
        answer.raise_for_status()


class Alerts:
    """Sends each alert once per cause until the cause is gone. A broken channel never stops us."""

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
        if self._open.pop(key, None) is None:
            return False
        self._send(Alert(Severity.INFO, key, title, "is over"))
        return True

    def _send(self, alert: Alert) -> None:
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

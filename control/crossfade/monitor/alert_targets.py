"""Where alerts go: signed webhooks, and everything apprise knows; in the background, with retries.

Targets come from CROSSFADE_ALERTS, entries ``[severity=]address`` with spaces between them, and
from the TOML file of CROSSFADE_ALERTS_FILE. Addresses hold secrets: nothing here prints one.
"""

import hashlib
import hmac
import json
import logging
import queue
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import tenacity
from pydantic import SecretStr

from crossfade.core.errors import ConfigError
from crossfade.monitor.alerts import Alert, Channel, Severity
from crossfade.project.config import Settings

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""With the waits between them about half a minute."""
TIMEOUT_S: Final = 10.0
WAITING: Final = 200
"""Alerts that may wait for one target; more are dropped, and the log says so."""
TIMESTAMP_HEADER: Final = "x-crossfade-timestamp"
SIGNATURE_HEADER: Final = "x-crossfade-signature"


@dataclass(frozen=True, slots=True)
class Target:
    """One place alerts go to. ``name`` is safe to show; ``severity`` and louder are sent."""

    name: str
    severity: Severity
    channel: Channel

    def wants(self, alert: Alert) -> bool:
        """True when the alert is loud enough."""
        return alert.loudest.rank >= self.severity.rank


# Channels ----------------------------------------------------------------------------------------


class Webhook:
    """Posts JSON: severity, key, title, body, text (what Slack and others show), figures, at, id.

    With a secret, the header ``x-crossfade-signature`` is ``v1=`` and the hex HMAC-SHA256 of
    ``{timestamp}.{body}``, where the timestamp is that of ``x-crossfade-timestamp``: a receiver
    checks both, so that nobody can forge an alert or send an old one again.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: SecretStr | None = None,
        client: httpx.Client | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._secret = secret
        self._client = client or httpx.Client(timeout=TIMEOUT_S)
        self._now = now

    def send(self, alert: Alert) -> None:
        """Post; raises when it is not accepted."""
        at = int(self._now())
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "at": at,
                "severity": alert.severity.value,
                "over": alert.over is not None,
                "key": alert.key,
                "title": alert.title,
                "body": alert.body,
                "text": f"[{alert.severity}] {alert.title}: {alert.body}",
                "figures": dict(alert.figures),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        headers = {"content-type": "application/json", TIMESTAMP_HEADER: str(at)}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = sign(self._secret, at, body)
        self._client.post(self._url, content=body, headers=headers).raise_for_status()


def sign(secret: SecretStr, timestamp: int, body: bytes) -> str:
    """The signature of a webhook, for those who send and those who receive."""
    key = secret.get_secret_value().encode()
    digest = hmac.new(key, f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


class AppriseChannel:
    """Anything apprise has an address for: Slack, mail, Teams, PagerDuty, Telegram and others."""

    def __init__(self, address: str) -> None:
        self._apprise = _apprise()
        self._target = self._apprise.Apprise()
        if not self._target.add(address):
            raise ConfigError(
                f"apprise does not know the address {shown(address)}",
                hint="See the apprise documentation for how yours is written",
            )

    def send(self, alert: Alert) -> None:
        """Send; raises when it was not accepted."""
        kinds = {
            Severity.INFO: self._apprise.NotifyType.INFO,
            Severity.WARNING: self._apprise.NotifyType.WARNING,
            Severity.CRITICAL: self._apprise.NotifyType.FAILURE,
        }
        lines = [alert.body, *(f"{name}: {value}" for name, value in alert.figures.items())]
        sent = self._target.notify(
            body="\n".join(line for line in lines if line) or alert.title,
            title=f"[{alert.severity}] {alert.title}",
            notify_type=kinds[alert.severity],
        )
        if not sent:
            raise ConnectionError("apprise could not deliver it")


def _apprise() -> Any:
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            "An alert target needs apprise, which is not installed",
            hint="Run: pip install 'crossfade[alerts]'",
        ) from None
    return apprise


# Delivery ----------------------------------------------------------------------------------------


def deliver(channel: Channel, alert: Alert, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Send, again after 1, 2, 4 and 8 s when that fails; raises the last failure."""
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=1, max=30) + tenacity.wait_random(0, 0.5),
        retry=tenacity.retry_if_exception(_may_pass),
        sleep=sleep,
        reraise=True,
    )
    attempts(channel.send, alert)


def _may_pass(error: BaseException) -> bool:
    """A refusal stays one: only what is broken or busy is tried again."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in {408, 425, 429}
    return isinstance(error, Exception)


class Background:
    """A target with a thread of its own, so that a slow one delays neither others nor a rollback.

    Args:
        target: where to send.
        sleep: waits between attempts.
    """

    def __init__(self, target: Target, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._target = target
        self._sleep = sleep
        self._queue: queue.Queue[Alert | None] = queue.Queue(WAITING)
        # Daemon: a target that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=target.name, daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> None:
        """Put it into the queue; never waits."""
        if not self._target.wants(alert):
            return
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            _log.error(
                "%s is too slow: alert %s is dropped", self._target.name, alert.key,
                extra={"action": "alert.dropped"},
            )  # fmt: skip

    def close(self, timeout_s: float) -> None:
        """Wait for what is in the queue, at most so long."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (alert := self._queue.get()) is not None:
            try:
                deliver(self._target.channel, alert, sleep=self._sleep)
            except Exception as error:
                # The text of an error could hold the address, which is a secret.
                _log.error(
                    "%s did not take alert %s: %s", self._target.name, alert.key,
                    type(error).__name__, extra={"action": "alert.failed"},
                )  # fmt: skip


def in_background(targets: Iterable[Target]) -> list[Channel]:
    """One thread for each target."""
    return [Background(target) for target in targets]


# Configuration -----------------------------------------------------------------------------------


def read_targets(settings: Settings, *, webhook: str | None = None) -> list[Target]:
    """The targets that environment and file name.

    Raises:
        ConfigError: names the entry by its number and kind, never its address.
    """
    secret = settings.webhook_secret
    found: list[Target] = []
    if webhook:
        found.append(_target(webhook, Severity.WARNING, secret, "--webhook"))
    if settings.alert_targets:
        entries = settings.alert_targets.get_secret_value().split()
        for number, entry in enumerate(entries, 1):
            severity, address = _split(entry)
            found.append(_target(address, severity, secret, f"CROSSFADE_ALERTS {number}"))
    if settings.alerts_file:
        found += _from_file(settings.alerts_file, secret)
    return found


def _split(entry: str) -> tuple[Severity, str]:
    word, equals, rest = entry.partition("=")
    if equals and word in list(Severity):
        return Severity(word), rest
    return Severity.WARNING, entry


def _from_file(path: Path, secret: SecretStr | None) -> list[Target]:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path} holds addresses that are secrets and others can read it",
                hint=f"Run: chmod 600 {path}",
            )
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("target", [])
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML file: {type(error).__name__}") from None
    return [_from_row(row, secret, f"{path} {number}") for number, row in enumerate(rows, 1)]


def _from_row(row: object, secret: SecretStr | None, where: str) -> Target:
    if not isinstance(row, dict) or not isinstance(row.get("url"), str):
        raise ConfigError(f"{where}: a target needs a url")
    severity = row.get("severity", Severity.WARNING)
    if severity not in list(Severity):
        raise ConfigError(f"{where}: severity is none of {', '.join(Severity)}")
    own = row.get("secret")
    return _target(
        row["url"], Severity(severity), SecretStr(own) if isinstance(own, str) else secret, where
    )


def _target(address: str, severity: Severity, secret: SecretStr | None, where: str) -> Target:
    if "://" not in address:
        raise ConfigError(f"{where}: the address has no scheme", hint="https://... or slack://...")
    channel: Channel
    if urlsplit(address).scheme in {"http", "https"}:
        channel = Webhook(address, secret=secret)
    else:
        channel = AppriseChannel(address)
    return Target(f"{where} ({shown(address)})", severity, channel)


def shown(address: str) -> str:
    """What may be shown of an address: the scheme, and the host of a webhook."""
    parts = urlsplit(address)
    host = parts.hostname if parts.scheme in {"http", "https"} else None
    return f"{parts.scheme}://{host or ''}..."


def send_test(
    targets: Sequence[Target], alert: Alert, *, sleep: Callable[[float], None] = time.sleep
) -> list[tuple[Target, str | None]]:
    """Send to each target now, whatever its severity; None or the kind of its failure."""
    outcomes: list[tuple[Target, str | None]] = []
    for target in targets:
        try:
            deliver(target.channel, alert, sleep=sleep)
        except httpx.HTTPStatusError as error:
            outcomes.append((target, f"HTTP {error.response.status_code}"))
        except Exception as error:
            outcomes.append((target, type(error).__name__))
        else:
            outcomes.append((target, None))
    return outcomes

"""Alerts reach people: by severity, signed, again when it fails, and never in the way."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr
from tests.unit.builders import project, sample, window
from typer.testing import CliRunner

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.core.errors import ConfigError
from crossfade.monitor import alert_targets
from crossfade.monitor.alert_targets import (
    ATTEMPTS,
    AppriseChannel,
    Background,
    Target,
    Webhook,
    deliver,
    read_targets,
    send_test,
    sign,
)
from crossfade.monitor.alerts import Alert, Alerts, Channel, Severity
from crossfade.monitor.loop import Monitor
from crossfade.project.config import Settings

HOOK = "https://hooks.invalid/secret-path"
ALERT = Alert(Severity.CRITICAL, "notes.R1", "notes R1", "12 % errors", {"R1.value": 0.12})


class Taken:
    """A channel that keeps what it is given, or fails so often first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.got: list[Alert] = []
        self.tries = 0

    def send(self, alert: Alert) -> None:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        self.got.append(alert)


class Hanging:
    """A channel that takes its time."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def send(self, _: Alert, /) -> None:
        self.let_go.wait(30)


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


# Webhooks ----------------------------------------------------------------------------------------


@respx.mock
def test_a_webhook_is_signed_over_its_time_and_body() -> None:
    route = respx.post(HOOK).respond(200)
    secret = SecretStr("shared")
    Webhook(HOOK, secret=secret, now=lambda: 1700000000.9).send(ALERT)
    request = route.calls[0].request
    assert request.headers["x-crossfade-timestamp"] == "1700000000"
    expected = sign(secret, 1700000000, request.content)
    assert request.headers["x-crossfade-signature"] == expected
    assert sign(secret, 1700000001, request.content) != expected
    assert sign(SecretStr("other"), 1700000000, request.content) != expected
    body = json.loads(request.content)
    assert (body["severity"], body["figures"], body["over"]) == (
        "critical",
        {"R1.value": 0.12},
        False,
    )
    assert "12 % errors" in body["text"]


def test_the_signature_is_the_one_that_is_documented() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac shared
    assert sign(SecretStr("shared"), 1700000000, b"{}") == (
        "v1=" + "8fe400a4d7d97fe5517b7b8d84c07a253654d1bf408323b8b0f24f6cc87644c7"
    )


@respx.mock
def test_without_a_secret_nothing_is_signed() -> None:
    route = respx.post(HOOK).respond(200)
    Webhook(HOOK).send(ALERT)
    assert "x-crossfade-signature" not in route.calls[0].request.headers


# Delivery ----------------------------------------------------------------------------------------


def refused(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", HOOK)
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))


@pytest.mark.parametrize("failure", [httpx.ConnectTimeout("slow"), refused(503), refused(429)])
def test_what_may_pass_is_tried_again(failure: Exception) -> None:
    channel, waits = Taken(failure, failure), list[float]()
    deliver(channel, ALERT, sleep=waits.append)
    assert channel.got == [ALERT]
    assert [round(wait) for wait in waits] == sorted(round(wait) for wait in waits)


def test_it_is_given_up_after_some_attempts_and_a_refusal_at_once() -> None:
    down = Taken(*[httpx.ConnectError("down")] * 99)
    with pytest.raises(httpx.ConnectError):
        deliver(down, ALERT, sleep=lambda _: None)
    assert down.tries == ATTEMPTS
    gone = Taken(refused(404), refused(404))
    with pytest.raises(httpx.HTTPStatusError):
        deliver(gone, ALERT, sleep=lambda _: None)
    assert gone.tries == 1


def test_a_target_hears_its_severity_and_louder_and_the_end_of_what_it_heard() -> None:
    channels = {severity: Taken() for severity in Severity}
    workers = [Background(Target("t", severity, taken)) for severity, taken in channels.items()]
    alerts = Alerts(workers)
    alerts.raise_(Alert(Severity.WARNING, "w", "warned"))
    alerts.raise_(Alert(Severity.CRITICAL, "c", "paged"))
    alerts.raise_(Alert(Severity.CRITICAL, "c", "paged"))
    alerts.clear("w", title="warned")
    alerts.clear("c", title="paged")
    alerts.close()
    heard = {s: [(a.key, a.over is not None) for a in t.got] for s, t in channels.items()}
    everything = [("w", False), ("c", False), ("w", True), ("c", True)]
    assert heard[Severity.INFO] == everything
    assert heard[Severity.WARNING] == everything
    assert heard[Severity.CRITICAL] == [("c", False), ("c", True)]


def test_a_hanging_target_delays_neither_a_rollback_nor_another_target() -> None:
    hanging, other = Hanging(), Taken()
    fake = project()
    fake.samples["notes"] = sample(v2=window(100, 60), percentage=5)
    channels: list[Channel] = [hanging, other]
    workers = [Background(Target("t", Severity.INFO, channel)) for channel in channels]
    monitor = Monitor(fake, alerts=Alerts(workers))
    ticks = monitor.tick()
    assert ticks[0].rolled_back is not None
    workers[1].close(10)
    assert any(alert.key.startswith("notes.rollback") for alert in other.got)
    hanging.let_go.set()
    workers[0].close(10)


def test_a_rollback_s_alert_holds_the_figures_it_was_decided_on() -> None:
    taken = Taken()
    fake = project()
    fake.samples["notes"] = sample(v2=window(100, 60), percentage=5)
    Monitor(fake, alerts=Alerts([taken])).tick()
    alert = next(item for item in taken.got if "rollback" in item.key)
    rule = next(iter(alert.figures)).split(".")[0]
    assert {f"{rule}.value", f"{rule}.n", f"{rule}.threshold"} <= set(alert.figures)
    assert alert.figures[f"{rule}.value"] == pytest.approx(0.6)


def test_a_target_that_fails_is_logged_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = Taken(*[httpx.ConnectError(f"cannot reach {HOOK}")] * 99)
    worker = Background(Target("t", Severity.INFO, failing), sleep=lambda _: None)
    with caplog.at_level(logging.ERROR):
        worker.send(ALERT)
        worker.close(10)
    assert "did not take" in caplog.text
    assert "secret-path" not in caplog.text


def test_a_flood_is_dropped_and_said_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_targets, "WAITING", 2)
    hanging = Hanging()
    worker = Background(Target("t", Severity.INFO, hanging))
    with caplog.at_level(logging.ERROR):
        for _ in range(9):
            worker.send(ALERT)
    assert "dropped" in caplog.text
    hanging.let_go.set()
    worker.close(10)


# Configuration -----------------------------------------------------------------------------------


def test_targets_come_from_the_environment_the_file_and_the_option(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    lines = ["[[target]]", 'url = "https://a.invalid/t0ken"', 'severity = "info"', 'secret = "s"']
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    found = read_targets(
        settings(alert_targets=f"critical={HOOK} json://127.0.0.1:1/tok", alerts_file=file),
        webhook="https://b.invalid/x",
    )
    kinds = [(type(target.channel), target.severity) for target in found]
    assert kinds == [
        (Webhook, Severity.WARNING),
        (Webhook, Severity.CRITICAL),
        (AppriseChannel, Severity.WARNING),
        (Webhook, Severity.INFO),
    ]
    names = " ".join(target.name for target in found)
    for secret in ("secret-path", "tok", "t0ken"):
        assert secret not in names


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"alert_targets": "nonsense"}, "no scheme"),
        ({"alert_targets": "nosuchscheme://a/secret-path"}, "apprise"),
        ({"alerts_file": Path("/nowhere/alerts.toml")}, "Cannot read"),
    ],
)
def test_a_wrong_target_is_named_and_not_shown(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        read_targets(settings(**values))
    assert "secret-path" not in error.value.line()


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        read_targets(settings(alerts_file=file))


@respx.mock
def test_the_test_command_tells_each_target_and_fails_when_one_did() -> None:
    respx.post("https://good.invalid/x").respond(200)
    respx.post("https://bad.invalid/secret-path").respond(404)
    given = settings(
        alert_targets="critical=https://good.invalid/x https://bad.invalid/secret-path"
    )
    result = CliRunner().invoke(app, ["alerts", "test"], obj=Session(given))
    assert result.exit_code == 1
    assert "sent" in result.stdout
    assert "HTTP 404" in result.stdout
    assert "secret-path" not in result.output
    listed = CliRunner().invoke(app, ["alerts", "list", "--json"], obj=Session(given))
    assert [row["severity"] for row in json.loads(listed.stdout)] == ["critical", "warning"]


def test_apprise_delivers_to_a_real_server_and_a_refusal_is_a_failure() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if len(got) == 1 else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        channel = AppriseChannel(f"json://127.0.0.1:{server.server_port}/hook")
        channel.send(ALERT)
        assert json.loads(got[0])["type"] == "failure"
        assert "R1.value: 0.12" in json.loads(got[0])["message"]
        outcome = send_test([Target("t", Severity.INFO, channel)], ALERT, sleep=lambda _: None)
        assert outcome[0][1] == "ConnectionError"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

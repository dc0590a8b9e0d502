"""The monitor: acts on what it sees, survives what it cannot see, tells people once."""

from collections.abc import Mapping

import pytest
import respx
from tests.unit.builders import project, sample, thresholds, window

from crossfade.core.contract import Event, Level, Outcome, Stage
from crossfade.core.errors import ServerFailedError, UnreachableError
from crossfade.monitor.alert_targets import Webhook
from crossfade.monitor.alerts import Alert, Alerts, Severity
from crossfade.monitor.loop import Monitor
from crossfade.testing import NOW, FakeGateway


class Inbox:
    """A channel that keeps what it is sent."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


class Broken:
    def send(self, alert: Alert) -> None:
        raise RuntimeError(alert.key)


def watch(fake: FakeGateway, *, enforce: bool = True) -> tuple[Monitor, Inbox]:
    inbox = Inbox()
    return Monitor(fake, alerts=Alerts([inbox]), now=lambda: NOW, enforce=enforce), inbox


def failing(seconds: float = 0) -> Mapping[str, object]:
    return {"notes": sample(seconds, v2=window(20, 20), streak=20)}


def test_a_healthy_pair_is_recorded_and_left_alone() -> None:
    fake = project()
    monitor, inbox = watch(fake)
    (tick,) = monitor.tick()
    assert tick.outcome is Outcome.PASS
    assert {item.rule for item in fake.verdicts["notes"]} >= {"R1", "R3", "R11"}
    assert fake.changed() == ("record_verdicts",)
    assert inbox.alerts == []


def test_a_failing_pair_is_rolled_back_broadcast_and_told() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    monitor, inbox = watch(fake)
    (tick,) = monitor.tick()
    assert tick.rolled_back is not None
    assert (fake.rollbacks[0].level, fake.rollbacks[0].automatic) == (Level.EMERGENCY, True)
    assert "R1k" in fake.rollbacks[0].reason
    assert [event for event, _ in fake.broadcasts] == [Event.ROLLBACK]
    assert any(alert.severity is Severity.CRITICAL for alert in inbox.alerts)


def test_the_same_failure_is_rolled_back_and_told_once() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    monitor, inbox = watch(fake)
    monitor.tick()
    told = len(inbox.alerts)
    fake.samples["notes"] = sample(15, v2=window(20, 20), streak=20, stage=Stage.SHADOW)
    monitor.tick()
    assert len(fake.rollbacks) == 1
    assert len(inbox.alerts) == told


def test_a_rehearsal_only_records() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    watch(fake, enforce=False)[0].tick()
    assert fake.rollbacks == []
    assert "record_verdicts" in fake.calls


def test_it_never_goes_forward() -> None:
    fake = project()
    monitor, _ = watch(fake)
    for second in range(0, 100_000, 10_000):
        fake.samples["notes"] = sample(second, percentage=5)
        monitor.tick()
    assert set(fake.changed()) == {"record_verdicts"}


def test_it_holds_when_it_cannot_read_and_says_blind_at_the_fourth_time() -> None:
    fake = project()
    monitor, inbox = watch(fake)
    monitor.tick()
    fake.fail("health_sample", UnreachableError("gone"), times=4)
    outcomes = [monitor.tick()[0].outcome for _ in range(5)]
    assert outcomes == [Outcome.HOLD] * 3 + [Outcome.ERROR, Outcome.PASS]
    assert fake.rollbacks == []
    assert [alert.key for alert in inbox.alerts] == ["notes.R11", "notes.R11"]
    assert inbox.alerts[-1].severity is Severity.INFO


@pytest.mark.parametrize("method", ["read_flags", "pair_status", "record_verdicts"])
def test_it_survives_an_error_of_every_other_call(method: str) -> None:
    fake = project()
    monitor, _ = watch(fake)
    monitor.tick()
    fake.fail(method, ServerFailedError("503"))
    assert monitor.tick()[0].error
    assert monitor.tick()[0].error is None


def test_not_being_able_to_record_does_not_keep_it_from_going_back() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    fake.fail("record_verdicts", ServerFailedError("503"))
    watch(fake)[0].tick()
    assert len(fake.rollbacks) == 1


def test_a_rollback_that_fails_is_told_and_tried_again() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    fake.fail("rollback", ServerFailedError("503"))
    monitor, inbox = watch(fake)
    assert monitor.tick()[0].rolled_back is None
    assert any("rollback_failed" in alert.key for alert in inbox.alerts)
    assert monitor.tick()[0].rolled_back is not None


@pytest.mark.parametrize(
    ("stage", "rows", "looks"),
    [
        (Stage.OFF, 200, 0),
        (Stage.DUALWRITE, 200, 1),
        (Stage.SHADOW, 50, 1),
        (Stage.LIVE, 200, 1),
        (Stage.RAMPDOWN, 200, 1),
        (Stage.COMPLETE, 200, 0),
        (Stage.LIVE, 0, 0),
    ],
)
def test_it_compares_some_rows_of_mirrored_pairs(stage: Stage, rows: int, looks: int) -> None:
    fake = project()
    fake.samples["notes"] = sample(stage=stage)
    monitor, _ = watch(fake)
    monitor.verify_rows = rows
    monitor.tick()
    assert [given for given in fake.given if given == ("notes", rows)] == [("notes", rows)] * looks
    assert fake.calls.count("verify_some") == looks


def test_it_judges_before_it_compares_and_a_failed_look_changes_nothing() -> None:
    fake = project()
    fake.samples.update(failing())  # type: ignore[arg-type]
    fake.fail("verify_some", ServerFailedError("57014"))
    monitor, _ = watch(fake)
    monitor.verify_rows = 200
    (tick,) = monitor.tick()
    assert tick.rolled_back is not None
    assert tick.error is None
    assert fake.calls[-1] == "verify_some"


def test_it_does_not_compare_what_it_cannot_see() -> None:
    fake = project()
    fake.fail("health_sample", UnreachableError("gone"))
    monitor, _ = watch(fake)
    monitor.verify_rows = 200
    monitor.tick()
    assert "verify_some" not in fake.calls


def test_a_restarted_monitor_goes_on_counting_the_time_of_a_breach() -> None:
    fake = project()
    fake.samples["notes"] = sample(0, v2=window(100, 15))
    watch(fake)[0].tick()
    fake.holder = None  # its lease has run out
    fake.samples["notes"] = sample(60, v2=window(100, 15))
    (tick,) = watch(fake)[0].tick()
    assert tick.rolled_back is not None
    assert tick.rolled_back.level is Level.COMPLETE


def test_it_uses_settings_as_they_are_now() -> None:
    fake = project()
    fake.samples["notes"] = sample(v2=window(100, 1), streak=2)
    monitor, _ = watch(fake)
    assert monitor.tick()[0].outcome is Outcome.PASS
    fake.settings["r1k_streak"] = 2
    assert monitor.tick()[0].outcome is Outcome.FAIL


def test_the_loop_waits_the_interval_of_the_settings() -> None:
    fake, waits = project(), list[float]()
    watch(fake)[0].run(sleep=waits.append, stop=lambda: len(waits) >= 3)
    wanted = thresholds().monitor_interval_s
    assert all(wanted - 5 < wait <= wanted for wait in waits)


def test_alerts_are_louder_when_it_gets_worse_and_end_once() -> None:
    inbox = Inbox()
    alerts = Alerts([Broken(), inbox])
    warning = Alert(Severity.WARNING, "k", "t")
    assert alerts.raise_(warning)
    assert not alerts.raise_(warning)
    assert alerts.raise_(Alert(Severity.CRITICAL, "k", "t"))
    assert not alerts.raise_(warning)
    assert alerts.clear("k", title="t")
    assert not alerts.clear("k", title="t")
    assert [item.severity for item in inbox.alerts] == ["warning", "critical", "info"]


@respx.mock
def test_a_webhook_gets_the_alert_as_json() -> None:
    route = respx.post("https://hooks.invalid/x").respond(200)
    Webhook("https://hooks.invalid/x").send(Alert(Severity.CRITICAL, "k", "T", "B"))
    assert b'"text":"[critical] T: B"' in route.calls[0].request.content

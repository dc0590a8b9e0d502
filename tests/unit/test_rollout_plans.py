"""Plans: what a file may say, what the commands do with it, who takes its steps."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from tests.unit.builders import at, pair, project, sample, window
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.rollout_plan import shipped_text
from crossfade.cli.session import Session
from crossfade.core.contract import Outcome, RolloutState, Stage
from crossfade.core.errors import InvalidValueError, ServerFailedError
from crossfade.health.model import RolloutBrief
from crossfade.monitor.alerts import Alert, Alerts
from crossfade.monitor.loop import Monitor
from crossfade.rollouts.plan import Wait, parse_duration_s, parse_plan
from crossfade.testing import NOW, FakeGateway

SHIPPED = parse_plan(shipped_text())


def run(fake: FakeGateway, *args: str) -> Result:
    return CliRunner().invoke(app, list(args), obj=Session(opened=fake))


# Files -------------------------------------------------------------------------------------


def test_the_shipped_plan_is_the_five_weeks_of_the_mission() -> None:
    assert SHIPPED.min_s == 5 * 7 * 86_400
    shares = [(step.stage, float(step.percentage)) for step in SHIPPED.steps]
    assert shares == [
        (Stage.DUALWRITE, 0),
        (Stage.SHADOW, 0),
        (Stage.LIVE, 5),
        (Stage.LIVE, 25),
        (Stage.LIVE, 75),
        (Stage.LIVE, 100),
        (Stage.COMPLETE, 100),
    ]
    assert SHIPPED.steps[3].flags == {"enable_memory_system": True}
    assert SHIPPED.steps[-1].flags == {"maintain_dual_write": False}
    assert [step.approval for step in SHIPPED.steps[-2:]] == ["manual", "manual"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("7 d", 604_800),
        ("1w", 604_800),
    ],
)
def test_durations(value: object, wanted: float) -> None:
    assert parse_duration_s(value) == wanted


@pytest.mark.parametrize("value", ["", "7", "d7", "7 days", "-1h", -1, True, None])
def test_a_duration_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration_s(value)


STEP = '[[steps]]\nname = "a"\nstage = "live"\npercentage = 5\n'
OTHER = STEP.replace('"a"', '"b"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "not TOML"),
        ("name = 'x'", "steps"),
        ("name = 'x'\nsteps = []", "no steps"),
        (STEP, "name"),
        (f"name = 'x'\ncolour = 1\n{STEP}", 'unknown field "colour"'),
        (f"name = 'x'\n{STEP}min_tme = '1d'", 'unknown field "min_tme"'),
        (f"name = 'x'\n{STEP}min_time = 'soon'", "no duration"),
        (f"name = 'x'\n{STEP}gates = ['R99']", "unknown gate R99"),
        (f"name = 'x'\n{STEP}approval = 'maybe'", "approval"),
        (f"name = 'x'\n{STEP}{STEP}", "same name"),
        (
            f"name = 'x'\n{STEP}{OTHER}",
            "not further",
        ),
        (f"name = 'x'\n{STEP.replace('live', 'off')}", "stage off"),
        (f"name = 'x'\n{STEP.replace('live', 'shadow')}", "serves V1 only"),
        (f"name = 'x'\n{STEP.replace('live', 'complete')}", "for everybody"),
        (f"name = 'x'\n{STEP.replace('live', 'complete').replace('5', '100')}", "manual"),
        (f"name = 'x'\n{STEP.replace('= 5', '= 5.0001')}", "three decimals"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_plan(text, source="my.toml")
    assert says in caught.value.line()


# Commands ----------------------------------------------------------------------------------


def test_plan_shows_the_shipped_one_and_writes_it_to_a_file(tmp_path: Path) -> None:
    assert "week 4: 75 % with all features" in run(project(), "rollout", "plan").stdout
    text = run(project(), "rollout", "plan", "--toml").stdout
    copy = tmp_path / "mine.toml"
    copy.write_text(text, "utf-8")
    assert parse_plan(text) == SHIPPED
    shown = json.loads(run(project(), "rollout", "plan", str(copy), "--json").stdout)
    assert shown["steps"][2]["percentage"] == 5


def test_start_prints_the_plan_and_needs_a_reason_and_a_yes() -> None:
    fake = project()
    assert run(fake, "rollout", "start", "notes", "--yes").exit_code == 2
    assert run(fake, "rollout", "start", "notes", "--reason", "x").exit_code == 2
    assert fake.rollouts == {}
    result = run(fake, "rollout", "start", "notes", "--reason", "x", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rollout"]["state"] == "running"
    assert "week 2: 5 %" in result.stderr


def test_starting_again_is_no_error_and_asks_nothing() -> None:
    fake = project()
    fake.start_rollout("notes", SHIPPED, reason="x")
    result = run(fake, "rollout", "start", "notes", "--reason", "x")
    assert result.exit_code == 0
    assert "was following" in result.stderr


def test_starting_without_a_monitor_says_so() -> None:
    fake = project()
    fake.start_rollout("notes", SHIPPED, reason="x")
    fake.rollouts["notes"] = replace(
        fake.rollouts["notes"], waits=(Wait("monitor", "no monitor runs"),)
    )
    assert "crossfade monitor run" in run(fake, "rollout", "start", "notes", "--reason", "x").stderr


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("hold", RolloutState.HELD),
        ("resume", RolloutState.RUNNING),
        ("abort", RolloutState.ABORTED),
    ],
)
def test_steering_needs_a_reason_and_a_yes(command: str, state: RolloutState) -> None:
    fake = project()
    fake.start_rollout("notes", SHIPPED, reason="x")
    if command == "resume":
        fake.control_rollout("notes", "hold", reason="x")
    assert run(fake, "rollout", command, "notes", "--yes").exit_code == 2
    assert run(fake, "rollout", command, "notes", "--reason", "x").exit_code == 2
    assert run(fake, "rollout", command, "notes", "--reason", "x", "--yes").exit_code == 0
    found = fake.rollouts["notes"].rollout
    assert found is not None
    assert found.state is state


def test_aborting_says_what_it_does_to_users() -> None:
    fake = project()
    fake.start_rollout("notes", SHIPPED, reason="x")
    words = ("rollout", "abort", "notes", "--reason", "x")
    assert "all users go back to V1" in run(fake, *words).stderr
    assert "stay where they are" in run(fake, *words, "--keep", "--yes").stderr
    assert fake.given[-1] == ("notes", "abort", "x", None, True)


def test_steering_what_is_not_under_way_is_one_line() -> None:
    result = run(project(), "rollout", "hold", "notes", "--reason", "x", "--yes")
    assert result.exit_code == 1
    assert "[CF023]" in result.stderr


def test_status_shows_the_plan_its_step_and_what_it_waits_for() -> None:
    fake = started()
    fake.rollouts["notes"] = replace(
        fake.rollouts["notes"],
        reached=3,
        current=SHIPPED.steps[2],
        elapsed_s=86_400,
        waits=(Wait("time", "86400 of 604800 s on this step"),),
    )
    text = run(fake, "rollout", "status", "notes").stdout
    assert "-> week 2: 5 %: 24.0 h of 7.0 d, 0 of 500 requests" in text
    assert "waits: 86400 of 604800 s" in text


def test_advance_takes_the_step_of_the_plan_and_records_what_it_judged_on() -> None:
    fake = started()
    result = run(fake, "rollout", "advance", "notes", "--reason", "x", "--yes")
    assert result.exit_code == 0, result.output
    calls = [call for call in fake.calls if call in ("record_verdicts", "advance_rollout")]
    assert calls == ["record_verdicts", "advance_rollout"]
    assert "set_cohort" not in fake.calls


def test_advance_exits_three_when_the_plan_waits() -> None:
    fake = started()
    fake.rollouts["notes"] = replace(fake.rollouts["notes"], waits=(Wait("time", "wait"),))
    result = run(fake, "rollout", "advance", "notes", "--reason", "x", "--yes")
    assert (result.exit_code, "waits: wait" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    "words",
    [("simulate",), ("simulate", "--pair", "notes", "--requests-per-minute", "5")],
)
def test_simulate_needs_one_traffic(words: tuple[str, ...]) -> None:
    assert run(project(), "rollout", *words).exit_code == 2


def test_simulate_prints_how_long_and_how_likely(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text(f"name = 'short'\n{STEP}min_time = '1h'\n", "utf-8")
    words = ("rollout", "simulate", str(file), "--requests-per-minute", "100", "--runs", "1")
    result = run(project(), *words, "--hours", "1")
    assert result.exit_code == 0, result.output
    assert "60 min when nothing holds it" in result.stdout
    assert "at most" in result.stdout
    found = json.loads(run(project(), *words, "--hours", "1", "--json").stdout)
    assert found["steps"][0]["expected_s"] == 3600


def test_of_two_who_go_one_step_back_at_once_the_second_is_told() -> None:
    fake = project()
    words = ("rollback", "run", "--level", "PARTIAL", "--pair", "notes", "--reason", "x", "--yes")
    assert run(fake, *words).exit_code == 0
    fake.calls.clear()
    seen, real = fake.pairs["notes"].step, fake.rollback

    def late(*args: object, **named: object) -> object:
        if not named["dry_run"]:
            fake.pairs["notes"] = replace(fake.pairs["notes"], step=seen + 1)
        return real(*args, **named)  # type: ignore[arg-type]

    fake.rollback = late  # type: ignore[assignment,method-assign]
    result = run(fake, *words)
    assert (result.exit_code, "somebody else" in result.stderr) == (1, True)


def test_driving_the_monitor_from_the_database() -> None:
    fake = project()
    assert "pg_cron watches" in run(fake, "monitor", "drive").stdout
    assert json.loads(run(fake, "monitor", "drive", "--off", "--json").stdout)["driven"] is False


# The monitor takes the steps ---------------------------------------------------------------


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


def started(state: RolloutState = RolloutState.RUNNING) -> FakeGateway:
    """A project whose pair follows the shipped plan, all gates open."""
    fake = project()
    fake.start_rollout("notes", SHIPPED, reason="x")
    view = fake.rollouts["notes"]
    assert view.rollout is not None
    fake.rollouts["notes"] = replace(view, rollout=replace(view.rollout, state=state))
    fake.samples["notes"] = sample(
        percentage=5, heartbeat_at=at(0), rollout=RolloutBrief(1, "five weeks", state)
    )
    fake.calls.clear()
    fake.given.clear()
    return fake


def watch(fake: FakeGateway, holder: str = "a", *, enforce: bool = True) -> Monitor:
    inbox = Inbox()
    return Monitor(fake, alerts=Alerts([inbox]), now=lambda: NOW, enforce=enforce, holder=holder)


def test_the_monitor_takes_the_step_it_has_seen() -> None:
    fake = started()
    (tick,) = watch(fake).tick()
    assert tick.advanced is not None
    assert (tick.advanced.advanced, tick.advanced.stage) == (True, Stage.DUALWRITE)
    assert fake.given[fake.calls.index("advance_rollout")] == ("notes", 3, True, None)


@pytest.mark.parametrize("state", [RolloutState.HELD, RolloutState.ROLLED_BACK])
def test_the_monitor_leaves_a_plan_that_does_not_run_alone(state: RolloutState) -> None:
    fake = started(state)
    watch(fake).tick()
    assert "advance_rollout" not in fake.calls


def test_the_monitor_does_not_widen_in_a_rehearsal_or_when_told_not_to() -> None:
    for change in ({"enforce": False}, {"follow_plans": False}):
        fake = started()
        monitor = watch(fake)
        for name, value in change.items():
            setattr(monitor, name, value)
        monitor.tick()
        assert "advance_rollout" not in fake.calls


def test_the_monitor_goes_back_rather_than_forward() -> None:
    fake = started()
    bad = window(20, 20)
    fake.samples["notes"] = replace(fake.samples["notes"], backends={2: bad}, streak=20)
    (tick,) = watch(fake).tick()
    assert tick.rolled_back is not None
    assert "advance_rollout" not in fake.calls


@pytest.mark.parametrize("method", ["rollout_status", "advance_rollout"])
def test_a_step_that_cannot_be_taken_now_is_taken_by_the_next_tick(method: str) -> None:
    fake = started()
    fake.fail(method, ServerFailedError("503"))
    monitor = watch(fake)
    assert monitor.tick()[0].advanced is None
    assert monitor.tick()[0].advanced is not None


@pytest.mark.parametrize(
    ("blocker", "calls"),
    [
        ("backfill_needed", ["start_backfill", "backfill_batch"]),
        ("verify_needed", ["start_verify", "verify_batch"]),
        ("open_failures", []),
        ("shadow_reads", []),
    ],
)
def test_the_monitor_copies_and_compares_what_a_stage_waits_for(
    blocker: str, calls: list[str]
) -> None:
    fake = started()
    fake.rollouts["notes"] = replace(
        fake.rollouts["notes"], waits=(Wait("stage", "not yet", blocker),)
    )
    fake.batch_rows = 1000
    watch(fake).tick()
    wanted = ("start_backfill", "backfill_batch", "start_verify", "verify_batch")
    assert [call for call in fake.calls if call in wanted] == calls


@pytest.mark.parametrize("parent_is_copied", [False, True])
def test_the_monitor_copies_the_pairs_of_a_group_parents_first(parent_is_copied: bool) -> None:
    fake = started()
    fake.pairs["tags"] = replace(fake.pairs["notes"], name="tags")
    fake.cohorts["tags"] = fake.cohorts["notes"]
    fake.samples["tags"] = sample(percentage=5, heartbeat_at=at(0))
    waits: tuple[Wait, ...] = (
        Wait("stage", "not yet", "backfill_needed", pair="notes"),
        Wait("stage", "its rows refer to", "parent_backfill_needed", pair="notes"),
        Wait("stage", "not yet", "backfill_needed", pair="tags"),
    )
    if parent_is_copied:
        waits = (waits[0], Wait("stage", "not yet", "verify_needed", pair="tags"))
    fake.rollouts["notes"] = replace(fake.rollouts["notes"], waits=waits)
    fake.batch_rows = 1000
    watch(fake).tick()
    begun = [
        (call, given[0])
        for call, given in zip(fake.calls, fake.given, strict=True)
        if call in ("start_backfill", "start_verify")
    ]
    assert begun == [("start_backfill", "notes" if parent_is_copied else "tags")]


def test_the_monitor_copies_nothing_while_something_else_stands_against_the_step() -> None:
    fake = started()
    waits = (Wait("verdict", "R8 says HOLD"), Wait("stage", "not yet", "backfill_needed"))
    fake.rollouts["notes"] = replace(fake.rollouts["notes"], waits=waits)
    watch(fake).tick()
    assert "start_backfill" not in fake.calls


# One of several monitors decides -----------------------------------------------------------


def test_the_second_monitor_shows_what_the_first_said_and_does_nothing() -> None:
    fake = project()
    fake.samples["notes"] = sample(v2=window(20, 20), streak=20)
    first, second = watch(fake, "a"), watch(fake, "b")
    assert first.tick()[0].rolled_back is not None
    before = fake.changed()
    (tick,) = second.tick()
    assert (tick.standby, tick.outcome, tick.rolled_back) == (True, Outcome.FAIL, None)
    assert fake.changed() == before
    first.release()
    assert not second.tick()[0].standby


def test_a_monitor_that_cannot_beat_decides_all_the_same() -> None:
    fake = project()
    fake.samples["notes"] = sample(v2=window(20, 20), streak=20)
    fake.fail("monitor_beat", ServerFailedError("503"))
    assert watch(fake).tick()[0].rolled_back is not None


def test_two_that_decide_at_once_go_back_once() -> None:
    fake = project()
    fake.samples["notes"] = sample(v2=window(20, 20), streak=20)
    fake.fail("monitor_beat", ServerFailedError("503"), times=2)
    assert watch(fake, "a").tick()[0].rolled_back is not None
    fake.pairs["notes"] = replace(fake.pairs["notes"], step=fake.pairs["notes"].step + 1)
    assert watch(fake, "b").tick()[0].rolled_back is None
    assert len(fake.rollbacks) == 1


def test_the_one_who_takes_over_tells_of_a_rollback_that_nobody_told() -> None:
    fake = project()
    fake.add_pair(pair(latched_at=NOW, latch_reason="R1", percentage=Decimal(0)))
    fake.samples["notes"] = sample(stage=Stage.SHADOW, latched=True)
    inbox = Inbox()
    monitor = Monitor(fake, alerts=Alerts([inbox]), now=lambda: NOW)
    monitor.tick()
    monitor.tick()
    assert [alert.key for alert in inbox.alerts] == ["notes.latched"]


def test_a_rehearsal_takes_no_lease_and_the_loop_gives_its_own_back() -> None:
    fake = project()
    rehearsal = watch(fake, "r", enforce=False)
    rehearsal.tick()
    rehearsal.release()
    assert "monitor_beat" not in fake.calls
    stops = iter([False, True])
    watch(fake, "a").run(sleep=lambda _: None, stop=lambda: next(stops))
    assert fake.holder is None

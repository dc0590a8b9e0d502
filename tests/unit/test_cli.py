"""The command line over a fake project: what it prints where, what it asks, how it exits."""

import json
from dataclasses import replace

import pytest
from tests.unit.builders import batch, project, sample, window
from typer.testing import CliRunner, Result

from crossfade import __version__
from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.core.contract import Direction, ErrorCode, Level, RepairAction, RunState, Stage
from crossfade.core.errors import Blocker, UnreachableError, refusal
from crossfade.flags.model import KillSwitch
from crossfade.pairs.model import ConversionCheck, RlsCheck, Violation, VisibleToOne
from crossfade.people.model import AuditEntry
from crossfade.runs.model import Batch, PlannedRow, Repaired, RepairPlan
from crossfade.testing import NOW, FakeGateway

RUNNER = CliRunner()


def run(fake: FakeGateway, *args: str, env: dict[str, str] | None = None) -> Result:
    return RUNNER.invoke(app, list(args), obj=Session(opened=fake), env=env)


READS = [
    ("flags", "list"),
    ("flags", "show", "enable_caching"),
    ("flags", "explain", "enable_caching", "--user", "u"),
    ("flags", "history", "enable_caching"),
    ("flags", "export"),
    ("flags", "schedules"),
    ("flags", "stale"),
    ("cohort", "show", "notes"),
    ("kill", "list"),
    ("pair", "list"),
    ("pair", "show", "notes"),
    ("pair", "check", "notes"),
    ("plan", "notes"),
    ("handover", "plan", "notes"),
    ("stage", "show", "notes"),
    ("stage", "blockers", "notes"),
    ("backfill", "status"),
    ("verify", "status", "notes"),
    ("rollout", "status", "notes"),
    ("rollback", "list"),
    ("rollback", "run", "--level", "COMPLETE", "--pair", "notes", "--dry-run"),
    ("snapshot", "list"),
    ("settings", "list"),
    ("audit", "list"),
    ("status",),
    ("monitor", "run", "--once", "--dry-run"),
]


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_every_read_has_json_on_stdout_and_changes_nothing(command: tuple[str, ...]) -> None:
    fake = project()
    result = run(fake, *command, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert set(fake.changed()) <= {
        "record_verdicts",
        "verify_some",
        "check_conversion",
        "judge_pair",
        "rollback_dry_run",
    }


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_every_read_has_a_text_for_people(command: tuple[str, ...]) -> None:
    result = run(project(), *command)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()
    assert not result.stdout.startswith(("{", "["))


CHANGES = [
    ("flags", "set", "enable_caching", "--disable", "--reason", "x"),
    ("cohort", "set", "notes", "--percentage", "10", "--reason", "x"),
    ("kill", "release", "disable_caching", "--reason", "x"),
    ("stage", "set", "notes", "shadow", "--reason", "x"),
    ("backfill", "start", "notes"),
    ("backfill", "run", "notes"),
    ("backfill", "pause", "notes"),
    ("backfill", "resume", "notes"),
    ("backfill", "cancel", "notes"),
    ("verify", "cancel", "notes"),
    ("repair", "notes"),
    ("rollback", "run", "--level", "PARTIAL", "--pair", "notes", "--reason", "x"),
    ("rollout", "advance", "notes"),
    ("rollout", "rearm", "notes", "--reason", "x"),
    ("snapshot", "restore", "1", "--reason", "x"),
    ("settings", "set", "r1k_streak", "7", "--reason", "x"),
    ("pair", "remove", "notes", "--reason", "x"),
    ("pair", "register", "p", "--v1", "a", "--v2", "b", "--to-v2", "f", "--to-v1", "g"),
    ("backfill", "run", "notes", "--self-drive"),
    ("pair", "mirror", "notes", "log_only", "--reason", "x"),
    ("pair", "refresh", "notes"),
]


def changeable() -> FakeGateway:
    """A project in which each of CHANGES has something to do."""
    fake = project()
    fake.kill_switches["disable_caching"] = KillSwitch("disable_caching", engaged=True)
    fake.take_snapshot(reason="x")
    fake.calls.clear()
    return fake


def latched() -> FakeGateway:
    fake = project()
    fake.rollback(Level.COMPLETE, "notes", reason="R1", automatic=True, dry_run=False)
    fake.calls.clear()
    return fake


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_a_change_without_yes_and_without_a_terminal_changes_nothing(
    command: tuple[str, ...],
) -> None:
    fake = latched() if "rearm" in command else changeable()
    result = run(fake, *command)
    assert result.exit_code == 2, result.output
    assert "--yes" in result.stderr
    assert "Nothing was changed" in result.stderr
    assert result.stdout == ""
    assert set(fake.changed()) <= {"rollback_dry_run"}


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (CHANGES[0], "set_flag"),
        (CHANGES[1], "set_cohort"),
        (CHANGES[2], "release_kill_switch"),
        (CHANGES[3], "set_stage"),
        (CHANGES[4], "start_backfill"),
        (CHANGES[11], "rollback"),
        (CHANGES[12], "set_cohort"),
        (CHANGES[14], "restore_snapshot"),
        (CHANGES[15], "set_setting"),
        (CHANGES[16], "unregister_pair"),
        (CHANGES[17], "register_pair"),
        (CHANGES[-1], "refresh_pair"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_change_with_yes_prints_the_plan_and_does_it(command: tuple[str, ...], call: str) -> None:
    fake = changeable()
    result = run(fake, *command, "--yes")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("  ")
    assert call in fake.calls


def test_yes_can_come_from_the_environment() -> None:
    fake = changeable()
    assert run(fake, *CHANGES[1], env={"CROSSFADE_YES": "1"}).exit_code == 0
    assert fake.cohorts["notes"].percentage == 10


def test_what_is_told_of_v2_is_what_it_serves_with_the_cause() -> None:
    fake = project()
    fake.engage_kill_switch("disable_v2_messages", reason="errors")
    why = "0 % on V2 (5 % are set, but kill switch disable_v2_messages is engaged)"
    assert why in run(fake, "status").stdout
    assert "0 %" in run(fake, "pair", "list").stdout
    down = run(fake, "cohort", "set", "notes", "--percentage", "4", "--reason", "x", "--yes")
    assert "0 % on V2 (4 % are set, but kill switch disable_v2_messages is engaged)" in down.stderr
    back = run(fake, "stage", "set", "notes", "shadow", "--reason", "x", "--yes")
    assert "live -> shadow; 0 % on V2" in back.stderr


def test_up_against_a_stop_needs_anyway() -> None:
    fake = project()
    fake.engage_kill_switch("disable_v2_messages", reason="errors")
    up = ("cohort", "set", "notes", "--percentage", "10", "--reason", "x", "--yes")
    refused = run(fake, *up)
    assert refused.exit_code == 1
    assert "CF028" in refused.stderr
    assert fake.cohorts["notes"].percentage == 5
    done = run(fake, *up, "--anyway")
    assert done.exit_code == 0, done.output
    assert "0 % on V2 (10 % are set" in done.stderr


def test_kill_engage_never_asks_and_needs_no_check_and_no_reason() -> None:
    fake = project()
    result = run(fake, "kill", "engage", "disable_v2_messages")
    assert result.exit_code == 0, result.output
    assert fake.calls[:2] == ["engage_kill_switch", "broadcast"]
    assert set(fake.calls[2:]) == {"last_served"}
    assert "committed in" in result.stdout
    assert "broadcast in" in result.stdout


def test_kill_engage_twice_is_no_error() -> None:
    fake = project()
    run(fake, "kill", "engage", "disable_v2_messages")
    result = run(fake, "kill", "engage", "disable_v2_messages")
    assert result.exit_code == 0
    assert "was engaged already" in result.stdout


def test_kill_engage_says_when_the_broadcast_did_not_go_out() -> None:
    fake = project()
    fake.fail("broadcast", UnreachableError("Realtime answered HTTP 429"))
    result = run(fake, "kill", "engage", "disable_v2_messages")
    assert result.exit_code == 0
    assert "429" in result.stderr


BAD = [
    (("kill", "engage", "disable_v2_mesages"), 1, "disable_v2_messages"),
    (("kill", "release", "nope", "--reason", "x", "--yes"), 1, "emergency_rollback"),
    (("kill", "release", "disable_v2_messages", "--yes"), 2, "--reason"),
    (("flags", "show", "enable_cachin"), 1, "enable_caching"),
    (("flags", "set", "enable_cachin", "--enable", "--yes"), 1, "enable_caching"),
    (("flags", "set", "enable_caching", "--percentage", "101", "--yes"), 2, '"101"'),
    (("flags", "set", "enable_caching", "--percentage", "33.3333", "--yes"), 2, '"33.3333"'),
    (("flags", "set", "enable_caching", "--percentage", "abc", "--yes"), 2, '"abc"'),
    (("flags", "set", "enable_caching", "--disable", "--yes"), 2, "--reason"),
    (("flags", "explain", "nope"), 1, "enable_caching"),
    (("cohort", "set", "notes", "--percentage", "101", "--yes"), 2, '"101"'),
    (("cohort", "set", "note", "--percentage", "1", "--yes"), 1, "notes"),
    (("stage", "set", "notes", "shadow", "--yes"), 2, "--reason"),
    (("stage", "set", "notes", "sideways", "--yes"), 2, "sideways"),
    (("stage", "show", "nots"), 1, "notes"),
    (("backfill", "run", "nots", "--yes"), 1, "notes"),
    (("backfill", "pause", "notes", "--yes"), 1, "backfill status"),
    (("verify", "run", "nots"), 1, "notes"),
    (("rollback", "run", "--level", "COMPLETE", "--reason", "x", "--yes"), 2, "--pair"),
    (("rollback", "run", "--level", "FEATURE", "--reason", "x", "--yes"), 2, "--flag"),
    (("rollback", "run", "--level", "PARTIAL", "--pair", "notes", "--yes"), 2, "--reason"),
    (
        ("rollback", "run", "--level", "FEATURE", "--flag", "nope", "--reason", "x", "--yes"),
        1,
        "enable_caching",
    ),
    (("snapshot", "restore", "9", "--reason", "x", "--yes"), 1, '"9"'),
    (("snapshot", "restore", "1", "--yes"), 2, "--reason"),
    (("pair", "mirror", "notes", "log_only", "--yes"), 2, "--reason"),
    (("pair", "check-rls", "note", "--user", "u"), 1, "notes"),
    (("settings", "set", "r1k_strea", "7", "--reason", "x", "--yes"), 1, "r1k_streak"),
    (("flag", "list"), 2, "flags"),
    (("cohort", "set"), 2, "--help"),
]


@pytest.mark.parametrize(("command", "code", "named"), BAD, ids=[" ".join(item[0]) for item in BAD])
def test_bad_input_is_one_line_with_the_way_out_and_changes_nothing(
    command: tuple[str, ...], code: int, named: str
) -> None:
    fake = project()
    result = run(fake, *command)
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == code, result.output
    assert lines[-1].startswith("Error: ")
    assert named in lines[-1]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert set(fake.changed()) - {"engage_kill_switch", "restore_snapshot"} == set()
    assert fake.version == 1


def test_a_percentage_is_refused_before_anything_is_asked_or_read() -> None:
    fake = project()
    run(fake, "cohort", "set", "notes", "--percentage", "101", "--yes")
    assert fake.calls == []


def test_a_traceback_comes_only_with_debug() -> None:
    def broken() -> FakeGateway:
        fake = project()
        fake.samples.clear()  # a bug: KeyError inside
        return fake

    plain = run(broken(), "rollout", "status", "notes")
    assert plain.exit_code == 1
    assert plain.stderr.count("\n") == 1
    assert "--debug" in plain.stderr
    assert "Traceback" in run(broken(), "--debug", "rollout", "status", "notes").stderr


def test_a_change_that_changes_nothing_says_so_and_asks_nothing() -> None:
    fake = project()
    for command in (
        ("flags", "set", "enable_caching", "--enable"),
        ("cohort", "set", "notes", "--percentage", "5"),
        ("stage", "set", "notes", "live"),
        ("kill", "release", "disable_v2_messages", "--reason", "x"),
        ("rollout", "rearm", "notes", "--reason", "x"),
        ("pair", "mirror", "notes", "both", "--reason", "x"),
    ):
        result = run(fake, *command)
        assert (result.exit_code, "nothing to do" in result.stderr) == (0, True), result.output
    assert fake.changed() == ()


def test_flag_lists_grow_and_can_be_emptied() -> None:
    fake = project()
    more = ("--reason", "x", "--yes")
    run(fake, "flags", "set", "enable_caching", "--allow-user", "a", "--allow-user", "b", *more)
    assert list(fake.flags["enable_caching"].allow_user_ids) == ["a", "b"]
    run(fake, "flags", "set", "enable_caching", "--clear-lists", "--allow-user", "c", *more)
    assert list(fake.flags["enable_caching"].allow_user_ids) == ["c"]
    run(fake, "flags", "set", "enable_caching", "--percentage", "none", *more)
    assert fake.flags["enable_caching"].percentage is None


def test_a_new_flag_can_be_made() -> None:
    fake = project()
    made = run(fake, "flags", "set", "mine", "--create", "--enable", "--reason", "x", "--yes")
    assert made.exit_code == 0, made.output
    assert fake.flags["mine"].enabled


def test_stage_set_lists_what_is_missing() -> None:
    fake = project()
    blockers = (Blocker("verify", "no clean verify yet", "crossfade verify run notes"),)
    fake.add_pair(
        replace(fake.pairs["notes"], stage=Stage.SHADOW, blockers=blockers, next_stage=Stage.LIVE)
    )
    result = run(fake, "stage", "set", "notes", "live", "--yes")
    assert result.exit_code == 1
    assert "crossfade verify run notes" in result.stderr
    assert run(fake, "stage", "blockers", "notes").exit_code == 3
    assert fake.pairs["notes"].stage is Stage.SHADOW


def test_backfill_run_shows_progress_on_stderr_and_the_result_on_stdout() -> None:
    fake = project()
    result = run(fake, "backfill", "run", "notes", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows_done"] == 1000
    assert "of about 1000 rows" in result.stderr


def test_backfill_run_says_how_to_go_on_when_it_was_paused() -> None:
    fake = project()
    fake.script.append(batch(100, state=RunState.PAUSED, reason="peak hour"))
    result = run(fake, "backfill", "run", "notes", "--yes")
    assert result.exit_code == 1
    assert "peak hour" in result.stderr
    assert "crossfade backfill resume notes" in result.stderr


def test_backfill_run_continues_what_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = project()
    real = fake.backfill_batch

    def interrupted(number: int, *, target_ms: int | None) -> Batch:
        if fake.runs[number].rows_done == 300:
            raise KeyboardInterrupt
        return real(number, target_ms=target_ms)

    monkeypatch.setattr(fake, "backfill_batch", interrupted)
    result = run(fake, "backfill", "run", "notes", "--yes")
    assert result.exit_code == 130
    assert "Continue with: crossfade backfill run notes" in result.stderr
    monkeypatch.undo()
    again = run(fake, "backfill", "run", "notes", "--yes")
    assert again.exit_code == 0
    assert "continue run 1 (300 rows done)" in again.stderr


def test_pause_and_resume_act_on_the_active_run() -> None:
    fake = project()
    fake.start_backfill("notes", direction=Direction.V1_TO_V2, ranges=1)
    assert run(fake, "backfill", "pause", "notes", "--yes").exit_code == 0
    assert str(fake.runs[1].state) == "paused"
    assert run(fake, "backfill", "resume", "notes", "--yes").exit_code == 0
    assert str(fake.runs[1].state) == "running"


def test_verify_run_exits_three_when_rows_differ() -> None:
    fake = project()
    clean = batch(1000, state=RunState.FINISHED)
    fake.script.append(replace(clean, run=replace(clean.run, mismatches=2)))
    result = run(fake, "verify", "run", "notes")
    assert result.exit_code == 3
    assert "crossfade repair notes" in result.stderr
    fake.script.append(clean)
    assert run(fake, "verify", "run", "notes").exit_code == 0


@pytest.mark.parametrize("kind", ["backfill", "verify"])
def test_self_drive_hands_the_run_over_and_does_no_batch(kind: str) -> None:
    fake = project()
    more = ("--yes",) if kind == "backfill" else ()
    result = run(fake, kind, "run", "notes", "--self-drive", "--json", *more)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["job"] == "crossfade_run_1"
    assert f"crossfade {kind} status notes" in result.stderr
    assert fake.changed() == (f"start_{kind}", "drive_run")
    assert fake.driven == {1}


def test_self_drive_without_pg_cron_is_one_line() -> None:
    fake = project()
    fake.fail("drive_run", refusal(ErrorCode.EXTENSION_MISSING, "pg_cron is not installed"))
    result = run(fake, "verify", "run", "notes", "--self-drive")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: pg_cron is not installed [CF018]"


def test_pair_mirror_pauses_and_resumes_and_says_what_is_left_to_do() -> None:
    fake = project()
    fake.add_pair(replace(fake.pairs["notes"], stage=Stage.DUALWRITE))
    paused = run(fake, "pair", "mirror", "notes", "log_only", "--reason", "full disk", "--yes")
    assert paused.exit_code == 0, paused.output
    assert fake.pairs["notes"].mirror == "log_only"
    resumed = run(fake, "pair", "mirror", "notes", "both", "--reason", "space again", "--yes")
    assert fake.pairs["notes"].mirror == "both"
    assert "crossfade repair notes" in resumed.stderr
    assert fake.changed() == ("set_mirror", "set_mirror")


def test_pair_refresh_says_which_release_made_the_mirror() -> None:
    fake = project()
    fake.generators["notes"] = "0.1.9"
    done = run(fake, "pair", "refresh", "notes", "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "pair": "notes",
        "before": "0.1.9",
        "after": __version__,
        "flags_version": 1,
    }
    assert run(fake, "pair", "refresh", "notes", "--yes").stdout == (
        f"The mirror of notes is that of crossfade {__version__}\n"
    )


def test_pair_refresh_of_an_unknown_pair_is_refused_by_name() -> None:
    fake = project()
    result = run(fake, "pair", "refresh", "nots", "--yes")
    assert result.exit_code == 1
    assert "nots" in result.stderr
    assert fake.changed() == ()


def test_check_rls_lists_what_only_one_table_shows_and_exits_three() -> None:
    fake = project()
    fake.parities.append(RlsCheck("notes", 2, (VisibleToOne("ann", {"id": 7}, 2),)))
    result = run(fake, "pair", "check-rls", "notes", "--user", "ann", "--user", "bob")
    assert result.exit_code == 3
    words = result.stdout.splitlines()[-1].split(maxsplit=3)
    assert words == ["ann", "select", "V2", '{  "id": 7}']
    same = run(fake, "pair", "check-rls", "notes", "--user", "ann", "--user", "bob")
    assert (same.exit_code, "2 users may see and write the same rows" in same.stdout) == (0, True)
    assert fake.given[-1] == ("notes", ("ann", "bob"))


def test_repair_fails_when_rows_are_left() -> None:
    fake = project()
    fake.repairs.append(Repaired(3, 0))
    assert run(fake, "repair", "notes", "--yes").exit_code == 0
    fake.repairs.extend([Repaired(0, 2, 2)])
    assert run(fake, "repair", "notes", "--yes").exit_code == 1


def planned() -> FakeGateway:
    fake = project()
    fake.repair_plan = RepairPlan(
        (
            PlannedRow({"id": 7}, "public.notes_v2", RepairAction.UPDATE, "V1 leads"),
            PlannedRow({"id": 8}, "public.notes_v2", RepairAction.CHOOSE, "only V2 has it"),
        ),
        remaining=30,
    )
    return fake


def test_repair_says_by_key_what_it_will_do_before_it_does_it() -> None:
    fake = planned()
    refused = run(fake, "repair", "notes")
    assert refused.exit_code == 2
    assert "update id 7 in public.notes_v2: V1 leads" in refused.stderr
    assert "leave alone id 8 of public.notes_v2: only V2 has it" in refused.stderr
    assert "30 keys are open" in refused.stderr
    assert "repair" not in fake.calls


@pytest.mark.parametrize(
    ("choice", "words"), [("delete", "delete id 8"), ("copy", "copy to the leader id 8")]
)
def test_repair_says_what_becomes_of_rows_of_the_follower(choice: str, words: str) -> None:
    fake = planned()
    done = run(fake, "repair", "notes", "--follower-only", choice, "--yes")
    assert done.exit_code == 0, done.output
    assert words in done.stderr
    assert fake.given[-1][3] == choice


def test_repair_names_the_commands_for_what_only_a_person_can_decide() -> None:
    fake = project()
    fake.repairs.append(Repaired(1, 2, 0, undecided=2))
    done = run(fake, "repair", "notes", "--yes")
    assert done.exit_code == 3
    for choice in ("delete", "copy"):
        assert f"crossfade repair notes --follower-only {choice}" in done.stderr


def test_pair_check_names_the_rows_and_exits_three() -> None:
    fake = project()
    bad = Violation({"id": 7}, 1, ("body",))
    fake.checks.append(ConversionCheck(1, (bad,), {"id": 7}, done=True))
    result = run(fake, "pair", "check", "notes")
    assert result.exit_code == 3
    assert '"id": 7' in result.stdout
    assert "body" in result.stdout


def test_rollout_advance_takes_the_next_step_only_when_healthy() -> None:
    fake = project()
    assert run(fake, "rollout", "advance", "notes", "--yes").exit_code == 0
    assert fake.cohorts["notes"].percentage == 25
    fake.samples["notes"] = sample(v2=window(100, 7), percentage=25)
    result = run(fake, "rollout", "advance", "notes", "--yes")
    assert result.exit_code == 3
    assert "R2 says HOLD" in result.stderr
    assert fake.cohorts["notes"].percentage == 25


def test_status_exits_three_when_something_needs_a_person() -> None:
    fake = project()
    assert run(fake, "status").exit_code == 0
    run(fake, "kill", "engage", "disable_v2_messages", "--reason", "errors")
    result = run(fake, "status")
    assert result.exit_code == 3
    assert "disable_v2_messages is engaged" in result.stdout


def test_monitor_once_exits_three_and_rolls_back_when_a_rule_fails() -> None:
    fake = project()
    assert run(fake, "monitor", "run", "--once").exit_code == 0
    fake.samples["notes"] = sample(v2=window(20, 20), streak=20)
    result = run(fake, "monitor", "run", "--once")
    assert result.exit_code == 3
    assert "EMERGENCY" in result.stderr
    assert len(fake.rollbacks) == 1


def test_rollback_dry_run_needs_no_reason_and_changes_nothing() -> None:
    fake = project()
    result = run(fake, "rollback", "run", "--level", "complete", "--pair", "notes", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "live -> shadow" in result.stdout
    assert fake.changed() == ("rollback_dry_run",)


def test_rollback_sends_the_broadcast() -> None:
    fake = project()
    run(fake, "rollback", "run", "--level", "PARTIAL", "--pair", "notes", "--reason", "x", "--yes")
    assert fake.broadcasts[0][1]["pair"] == "notes"


def test_audit_can_be_narrowed() -> None:
    fake = project()
    fake.audit = [
        AuditEntry(1, NOW, "ann", "flag.update", "enable_caching", "try", 2),
        AuditEntry(2, NOW, "bob", "pair.update", "notes", None, 3),
    ]
    assert "bob" not in run(fake, "audit", "list", "--object", "enable_caching").stdout

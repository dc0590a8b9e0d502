"""Watching without Python: decides as the rules of the control plane do, driven by pg_cron."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import ROOT, Connection
from tests.sql.control import call, create_pair, one, refused
from tests.sql.fake_cron import CRON
from tests.sql.rollouts import beat
from tests.sql.test_self_drive import cron_server, needs_cron, restart, wait_for
from tests.unit.test_health_vectors import RULES, TOPIC, sample_row

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGIN + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


@pytest.fixture
def live(db: Connection) -> Connection:
    create_pair(db, stage="live", percentage=25)
    db.execute("update crossfade.pairs set step_started_at = now() - interval '2 hours'")
    return db


def record(db: Connection, outcome: str, count: int, version: int = 2) -> None:
    event = {
        "pair": "orders", "backend_version": version, "wire_version": 1, "outcome": outcome,
        "latency_ms": 10, "count": count,
    }  # fmt: skip
    call(db, "record_requests", [event])


def watch(db: Connection) -> Any:
    return one(db, "select crossfade_private.watch_once()")


# Deciding as Python does -------------------------------------------------------------------


@pytest.mark.parametrize("case", TOPIC["cases"], ids=lambda case: case["name"])
def test_health_rules(db: Connection, case: Any) -> None:
    given = case["input"]
    settings = one(db, "select jsonb_object_agg(name, value) from crossfade.settings")
    previous = {
        rule: {"at": at(seen["at"]), "since": None if seen["since"] is None else at(seen["since"])}
        for rule, seen in given.get("previous", {}).items()
    }
    answer = one(
        db,
        "select crossfade_private.judge(%s::jsonb, %s::jsonb, %s::jsonb)",
        *(
            json.dumps(item)
            for item in (
                sample_row(given, at),
                previous,
                {**settings, **given.get("settings", {})},
            )
        ),
    )
    found = {row["rule"]: row for row in answer}
    assert set(found) <= set(RULES)
    for rule in RULES:
        wanted = case["expect"].get(rule, {"verdict": "PASS"})
        if wanted is None:
            assert rule not in found
            continue
        for name, value in wanted.items():
            assert said(found[rule], name) == pytest.approx(value, abs=1e-8), (rule, name)


def said(row: Any, name: str) -> Any:
    if name == "since":
        since = row["details"]["since"]
        return since and (datetime.fromisoformat(since) - BEGIN).total_seconds()
    return row["details"]["shared_cause"] if name == "shared_cause" else row[name]


# Acting ------------------------------------------------------------------------------------


def test_it_leaves_watching_to_a_monitor_that_lives(live: Connection) -> None:
    record(live, "error", 20)
    beat(live)
    assert watch(live)["idle"] is True
    assert one(live, "select count(*) from crossfade.verdicts") == 0


def test_it_leaves_a_healthy_pair_alone_and_writes_down_what_it_saw(live: Connection) -> None:
    record(live, "ok", 100)
    answer = watch(live)
    assert (answer["idle"], answer["pairs"][0]["rollback"]) == (False, None)
    stored: dict[str, str] = dict(
        live.execute("select rule, verdict from crossfade.verdicts").fetchall()
    )
    assert stored == dict.fromkeys(RULES, "PASS")


@pytest.mark.parametrize("silent", [None, "61 seconds"])
def test_it_goes_back_when_nobody_else_watches(live: Connection, silent: str | None) -> None:
    if silent:
        beat(live)
        live.execute("update crossfade.monitors set heartbeat_at = now() - %s::interval", [silent])
    record(live, "error", 20)
    done = watch(live)["pairs"][0]["rollback"]
    assert (done["level"], done["rollback"] is None) == ("EMERGENCY", False)
    row = live.execute("select stage, latched_at is null from crossfade.pairs").fetchone()
    assert row == ("shadow", False)
    assert watch(live)["pairs"] == []  # it serves V1 now: nothing to go back from


def test_a_breach_has_to_last_between_two_looks(live: Connection) -> None:
    record(live, "ok", 85)
    record(live, "error", 3)
    record(live, "ok", 1)
    record(live, "error", 3)
    record(live, "ok", 1)
    record(live, "error", 5)
    record(live, "ok", 1)
    record(live, "error", 5)
    record(live, "ok", 1)
    assert watch(live)["pairs"][0]["rollback"] is None
    live.execute(
        "update crossfade.verdicts set at = at - interval '60 s', details = details"
        " || jsonb_build_object('since', (details ->> 'since')::timestamptz - interval '60 s')"
    )
    assert watch(live)["pairs"][0]["rollback"]["level"] == "COMPLETE"


@pytest.mark.parametrize("mode", ["warn", "dry_run", "off"])
def test_a_rule_that_is_not_enforced_does_nothing(live: Connection, mode: str) -> None:
    modes = json.dumps(dict.fromkeys(RULES, mode))
    call(live, "set_setting", "rule_modes", modes, "test")
    record(live, "error", 20)
    watch(live)
    assert one(live, "select stage from crossfade.pairs") == "live"


def test_a_pair_that_cannot_be_judged_does_not_keep_others_from_being_watched(
    connect: Any,
) -> None:
    db = connect()
    create_pair(db, stage="live", percentage=25)
    create_pair(db, "bills", stage="live", percentage=25)
    record(db, "error", 20)
    db.execute("alter table crossfade.verdicts add constraint broken check (pair <> 'bills')")
    watch(db)
    stages = dict(db.execute("select name, stage from crossfade.pairs").fetchall())
    assert stages == {"orders": "shadow", "bills": "live"}


# The job -----------------------------------------------------------------------------------


def test_without_pg_cron_the_error_says_so(db: Connection) -> None:
    with refused("CF018", 409) as refusal:
        call(db, "drive_monitor")
    assert "pg_cron is not installed" in refusal.message
    assert call(db, "drive_monitor", False)["driven"] is False


def test_there_is_one_job_it_watches_and_it_can_be_taken_away(connect: Any) -> None:
    db: Connection = connect()
    db.execute(CRON)
    for _ in range(2):
        assert call(connect("service_role"), "drive_monitor")["job"] == "crossfade_monitor"
    jobs = "select array_agg(jobname || ': ' || command) from cron.job"
    command = one(db, "select crossfade_private.watch_command(55)")
    assert one(db, jobs) == [f"crossfade_monitor: {command}"]
    create_pair(db, stage="live", percentage=25)
    record(db, "error", 20)
    db.execute(one(db, "select crossfade_private.watch_command(0)"))
    assert one(db, "select stage from crossfade.pairs") == "shadow"
    assert call(db, "drive_monitor", False)["driven"] is False
    assert one(db, jobs) is None


def test_uninstalling_takes_the_job_away(connect: Any) -> None:
    db: Connection = connect()
    db.execute(CRON)
    call(db, "drive_monitor")
    db.execute((ROOT / "sql" / "uninstall.sql").read_text())
    assert one(db, "select count(*) from cron.job") == 0


@needs_cron
def test_pg_cron_itself_goes_back_with_no_monitor_and_no_client() -> None:
    with cron_server(workers="on") as server:
        with psycopg.connect(server.dsn(database="driven"), autocommit=True) as db:
            create_pair(db, stage="live", percentage=25)
            call(db, "set_setting", "monitor_interval_s", "1", "test")
            call(db, "drive_monitor")
        with restart(server) as db:
            record(db, "error", 20)
            query = "select stage from crossfade.pairs"
            assert wait_for(db, query, lambda stage: stage == "shadow")
            assert one(db, "select actor from crossfade.rollbacks") == "postgres"
            assert one(db, "select automatic from crossfade.rollbacks")

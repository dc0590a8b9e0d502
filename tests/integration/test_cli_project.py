"""The command line against a real project: what it says is what the database did."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from crossfade.flags.evaluation import choose_backend, evaluate
from crossfade.flags.model import Context
from crossfade.gateway import SupabaseGateway
from tests.integration.cli_project import Project, running_project
from tests.sql.fake_cron import CRON


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    with running_project(fresh_dir("cli")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(project: Project) -> Iterator[SupabaseGateway]:
    with project.gateway() as opened:
        yield opened


def rows(project: Project, table: str) -> int:
    return int(project.sql(f"select count(*) from public.{table}")[0][0])


def test_it_runs_as_a_module_and_finds_the_embedded_stack(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crossfade", "status", "--json"],
        env={"CROSSFADE_DATA_DIR": project.stack.info.data_dir, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["url"] == project.stack.info.api_url


def test_a_pair_goes_from_registration_to_live_and_back(project: Project) -> None:
    project.make_tables("story", 3000)
    assert project.register("story").exit_code == 0
    assert project.data("pair", "check", "story")["rows_checked"] == 3000
    assert project.run("backfill", "run", "story", "--yes").exit_code == 1  # not mirrored yet
    project.ok("stage", "set", "story", "dualwrite", "--reason", "begin", "--yes")
    assert project.data("backfill", "run", "story", "--yes")["rows_written"] == 3000
    project.sql("insert into public.story values (9001, 'new', null)")
    assert rows(project, "story_v2") == 3001
    project.ok("stage", "set", "story", "shadow", "--reason", "filled", "--yes")
    assert project.run("stage", "blockers", "story").exit_code == 3
    project.ok("settings", "set", "shadow_min_reads", "0", "--reason", "no traffic", "--yes")
    assert project.data("verify", "run", "story")["mismatches"] == 0
    project.ok("stage", "set", "story", "live", "--reason", "clean", "--yes")
    project.ok("cohort", "set", "story", "--percentage", "33.333", "--reason", "try", "--yes")
    assert project.data("cohort", "show", "story")["percentage"] == 33.333
    plan = project.ok(
        *("rollback", "run", "--level", "COMPLETE", "--pair", "story", "--reason", "x", "--yes")
    )
    assert "story" in plan.stderr
    assert project.data("stage", "show", "story") == {
        "pair": "story",
        "stage": "shadow",
        "mirror": "both",
    }
    assert rows(project, "story_v2") == 3001
    entry = project.data("audit", "list", "--object", "story")[0]
    assert (entry["actor"], entry["reason"]) == ("tester", "x")


def test_a_group_goes_to_live_and_back_as_one(project: Project) -> None:
    for name in ("shelf", "book"):
        project.make_tables(name, 300)
    for v in ("", "_v2"):
        project.sql(
            f"alter table public.book{v} add foreign key (id) references public.shelf{v} (id) "
            "on delete cascade"
        )
    for name in ("shelf", "book"):
        assert project.register(name).exit_code == 0
    refused = project.run("stage", "set", "book", "dualwrite", "--reason", "begin", "--yes")
    assert refused.exit_code == 1
    assert "crossfade group stage shelf dualwrite" in refused.output
    found = {group["group"]: group for group in project.data("group", "list")}
    assert [pair["pair"] for pair in found["shelf"]["pairs"]] == ["shelf", "book"]
    assert "shelf, book" in project.ok("group", "list").output
    assert project.data("group", "plan", "book")[1]["pair"] == "book"
    told = project.ok("group", "stage", "book", "dualwrite", "--reason", "begin", "--yes").output
    assert "shelf: off -> dualwrite" in told
    shown = project.run("group", "show", "shelf")
    assert (shown.exit_code, "waiting" in shown.output) == (3, True)
    assert "crossfade backfill run shelf" in shown.output, "what is missing comes with a command"
    project.sql("insert into public.shelf values (9001, 'new', null)")
    project.sql("insert into public.book values (9001, 'new', null)")
    copied = project.data("group", "backfill", "shelf", "--yes")
    assert [(run["pair"], run["rows_written"]) for run in copied] == [("shelf", 300), ("book", 301)]
    assert "Nothing to do" in project.ok("group", "backfill", "shelf", "--yes").output
    project.ok("group", "stage", "shelf", "shadow", "--reason", "filled", "--yes")
    project.ok("settings", "set", "shadow_min_reads", "0", "--reason", "no traffic", "--yes")
    project.unmirrored("book_v2", "update public.book_v2 set note = 'other' where id = 1")
    differs = project.run("group", "verify", "shelf")
    assert (differs.exit_code, "1 rows of book differ" in differs.output) == (3, True)
    blocked = project.run("group", "stage", "shelf", "live", "--reason", "too early", "--yes")
    assert blocked.exit_code == 1
    assert "book: " in blocked.output
    project.ok("repair", "book", "--reason", "test", "--yes")
    assert [run["mismatches"] for run in project.data("group", "verify", "shelf")] == [0, 0]
    project.ok("group", "stage", "shelf", "live", "--reason", "clean", "--yes")
    assert "already" in project.ok("group", "stage", "shelf", "live", "--yes").output
    plan = project.ok("group", "rollback", "book", "--dry-run").output
    assert "set_stage shelf" in plan
    assert "set_stage book" in plan
    project.ok("group", "rollback", "book", "--reason", "slow", "--yes")
    stages = {group["group"]: group["stage"] for group in project.data("group", "list")}
    assert stages["shelf"] == "shadow"
    assert project.run("group", "stage", "shelf", "off", "--yes").exit_code == 2, "no reason"
    assert project.run("group", "rollback", "shelf", "--level", "FEATURE").exit_code == 2
    unknown = project.run("group", "show", "shelv")
    assert (unknown.exit_code, "shelf" in unknown.output) == (1, True)
    project.ok("group", "stage", "shelf", "off", "--reason", "done", "--yes")


def test_check_names_the_live_rows_that_break_a_law(project: Project) -> None:
    project.make_tables("lossy", 50)
    project.sql("insert into public.lossy_v2 values (7, '[]', null)")
    project.register("lossy")
    result = project.run("pair", "check", "lossy", "--json")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert report["count"] == 1
    assert report["violations"][0]["key"] == {"id": 7}


def test_a_table_without_a_key_is_refused_in_one_line(project: Project) -> None:
    project.make_tables("keyless", 1)
    project.sql("alter table public.keyless drop constraint keyless_pkey")
    result = project.register("keyless")
    assert result.exit_code == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "keyless" in last
    assert "key" in last.replace("keyless", "")
    assert "keyless" not in [pair["name"] for pair in project.data("pair", "list")]


@pytest.mark.parametrize("value", ["101", "33.3333", "abc", "-1"])
def test_the_database_refuses_a_bad_percentage_too(project: Project, value: str) -> None:
    info = project.stack.info
    answer = httpx.post(
        f"{info.api_url}/rest/v1/rpc/set_flag",
        headers={"apikey": info.secret_key, "content-profile": "crossfade"},
        json={"name": "enable_caching", "changes": {"percentage": value}, "reason": "x"},
    )
    assert answer.status_code == 400
    assert value in answer.text


def test_engaging_a_kill_switch_refuses_v2_writes_and_broadcasts(project: Project) -> None:
    project.make_pair("killed", stage="shadow")  # V2 is open from the first backfill on
    info = project.stack.info

    def insert(number: int) -> int:
        return httpx.post(
            f"{info.api_url}/rest/v1/killed_v2",
            headers={"apikey": info.secret_key},
            json={"id": number, "blocks": [{"text": "x"}]},
        ).status_code

    project.stack.restart_api()  # its schema cache is read at start
    assert insert(501) == 201
    done = json.loads(project.ok("kill", "engage", "disable_v2_messages", "--json").stdout)
    assert (done["changed"], done["in_flight"], done["broadcast_error"]) == (True, False, None)
    assert done["commit_ms"] > 0
    assert insert(502) == 409
    project.ok("kill", "release", "disable_v2_messages", "--reason", "test", "--yes")
    assert insert(503) == 201


def test_python_and_sql_explain_every_flag_alike(
    project: Project, gateway: SupabaseGateway
) -> None:
    more = ("--reason", "test", "--yes")
    project.ok("flags", "set", "enable_caching", "--enable", "--percentage", "33.333", *more)
    project.ok("flags", "set", "enable_parallel_tools", "--enable", "--allow-user", "u1", *more)
    state = gateway.read_flags()
    units = ["", "u1", "użytkownik", "你好", "550e8400-e29b-41d4-a716-446655440000"]
    for name, unit in itertools.product([*state.flags, "nowhere"], units):
        here = evaluate(state, name, Context(user_id=unit))
        there = gateway.explain_flag(name, {"user_id": unit})
        assert [(s.rule, s.matched, s.value, s.decides) for s in here.steps] == [
            (s.rule, s.matched, s.value, s.decides) for s in there.steps
        ]
        assert (here.value, here.reason, here.rule, here.bucket, here.error_code) == (
            there.value,
            there.reason,
            there.rule,
            there.bucket,
            there.error_code,
        )


def test_python_and_sql_choose_the_same_backend(project: Project, gateway: SupabaseGateway) -> None:
    project.make_pair("chosen", stage="live")
    project.ok("cohort", "set", "chosen", "--percentage", "40", "--deny-user", "user-1", "--yes",
               "--reason", "test")  # fmt: skip
    state = gateway.read_flags()
    info = project.stack.info
    for number in range(40):
        context = {"user_id": f"user-{number}"}
        there = httpx.post(
            f"{info.api_url}/rest/v1/rpc/choose_backend",
            headers={"apikey": info.secret_key, "content-profile": "crossfade"},
            json={"pair": "chosen", "context": context},
        ).json()
        here = choose_backend(state, state.pairs["chosen"], Context(**context))
        assert (here.backend, here.reason, here.rule) == (
            there["backend"],
            there["reason"],
            there["rule"],
        )


def test_verify_finds_a_difference_and_repair_removes_it(project: Project) -> None:
    project.make_pair("differs", rows=500, stage="shadow")
    project.unmirrored(
        "differs_v2",
        "update public.differs_v2 set note = 'changed' where id = 42;"
        "delete from public.differs_v2 where id = 43",
    )
    found = project.run("verify", "run", "differs", "--json")
    assert found.exit_code == 3
    assert json.loads(found.stdout)["mismatches"] == 2
    assert project.run("status").exit_code == 3
    assert project.data("repair", "differs", "--yes", "--reason", "test")["remaining"] == 0
    project.ok("verify", "run", "differs")
    assert project.sql("select note from public.differs_v2 where id = 42") == [(None,)]


def test_a_run_that_drives_itself_is_handed_over(project: Project) -> None:
    project.make_tables("alone", 3000)
    project.register("alone")
    project.ok("stage", "set", "alone", "dualwrite", "--reason", "test", "--yes")
    command = ("backfill", "run", "alone", "--self-drive", "--yes")
    refused = project.run(*command)
    assert (refused.exit_code, "CF018" in refused.stderr) == (1, True)
    project.sql(CRON)
    try:
        done = project.data(*command)
        assert (done["driven"], done["schedule"]) == (True, "5 seconds")
        ((job,),) = project.sql("select command from cron.job")
        with psycopg.connect(project.stack.info.db_url, autocommit=True) as pg_cron:
            pg_cron.execute(job)
        assert project.data("backfill", "status", "alone")[0]["state"] == "finished"
        assert rows(project, "alone_v2") == 3000
        project.ok("verify", "run", "alone", "--self-drive")
        project.ok("verify", "cancel", "alone", "--yes")
        assert project.sql("select * from cron.job") == []
    finally:
        project.sql("drop schema cron cascade")


def test_a_paused_mirror_only_notes_what_changed(project: Project) -> None:
    project.make_pair("paused")
    why = ("--reason", "test", "--yes")
    assert project.data("pair", "mirror", "paused", "log_only", *why)["after"] == "log_only"
    project.sql("insert into public.paused values (9001, 'new', null)")
    assert rows(project, "paused_v2") == 0
    assert project.data("pair", "show", "paused")["open_failures"] == 1
    assert "nothing to do" in project.ok("pair", "mirror", "paused", "log_only", *why).stderr
    project.ok("pair", "mirror", "paused", "both", *why)
    project.ok("repair", "paused", *why)
    assert project.sql("select id from public.paused_v2") == [(9001,)]


def test_check_rls_names_the_rows_only_one_table_shows(project: Project) -> None:
    user = "00000000-0000-4000-8000-000000000001"
    project.make_pair("seen")
    project.sql("""
        insert into public.seen values (9001, 'new', null);
        grant select on public.seen, public.seen_v2 to authenticated;
        alter table public.seen enable row level security;
        alter table public.seen_v2 enable row level security;
        create policy "one row" on public.seen_v2 to authenticated
          using (id = 9001 and (select auth.uid()) is not null)""")
    command = ("pair", "check-rls", "seen", "--user", user)
    found = project.run(*command, "--json")
    assert found.exit_code == 3, found.output
    assert json.loads(found.stdout)["differences"] == [
        {"user_id": user, "command": "select", "key": {"id": 9001}, "visible_in": 2}
    ]
    project.sql('drop policy "one row" on public.seen_v2')
    assert project.data(*command)["differences"] == []


def test_the_monitor_finds_what_differs_behind_the_mirror(project: Project) -> None:
    project.make_pair("looked", stage="shadow")
    watch = ("monitor", "run", "--once", "--pair", "looked")
    project.unmirrored("looked_v2", "update public.looked_v2 set note = 'other' where id = 42")
    project.run(*watch, "--verify-rows", "0")
    assert project.data("pair", "show", "looked")["open_mismatches"] == 0
    project.run(*watch)
    assert project.data("pair", "show", "looked")["open_mismatches"] == 1


def test_the_monitor_rolls_back_latches_and_waits_for_a_person(project: Project) -> None:
    project.make_pair("watched", stage="live")
    project.ok("cohort", "set", "watched", "--percentage", "5", "--reason", "test", "--yes")
    assert project.run("monitor", "run", "--once", "--pair", "watched").exit_code == 3
    event = {"pair": "watched", "backend_version": 2, "wire_version": 1, "latency_ms": 20}
    info = project.stack.info
    httpx.post(
        f"{info.api_url}/rest/v1/rpc/record_requests",
        headers={"apikey": info.secret_key, "content-profile": "crossfade"},
        json={"batch": [{**event, "outcome": "error"}] * 12},
    ).raise_for_status()
    result = project.run("monitor", "run", "--once", "--pair", "watched")
    assert result.exit_code == 3
    assert "EMERGENCY" in result.stderr
    assert project.data("stage", "show", "watched")["stage"] == "shadow"
    assert project.data("rollback", "list")[0]["automatic"] is True
    engaged = [item["name"] for item in project.data("kill", "list") if item["engaged"]]
    assert engaged == ["disable_v2_watched"]
    project.ok("kill", "release", "disable_v2_watched", "--reason", "test", "--yes")
    forward = project.run("stage", "set", "watched", "live", "--reason", "x", "--yes")
    assert forward.exit_code == 1
    assert "CF006" in forward.stderr
    project.ok("rollout", "rearm", "watched", "--reason", "cause found", "--yes")
    project.ok("stage", "set", "watched", "live", "--reason", "x", "--yes")
    waiting = project.run("rollout", "advance", "watched", "--yes")
    assert (waiting.exit_code, "cooling down" in waiting.stderr) == (3, True)
    project.ok("settings", "set", "rollout_cooldown_s", "0", "--reason", "test", "--yes")
    project.ok("rollout", "advance", "watched", "--yes")
    assert project.data("cohort", "show", "watched")["percentage"] == 5


def test_a_snapshot_brings_flags_back(project: Project) -> None:
    more = ("--reason", "test", "--yes")
    project.ok("flags", "set", "enable_context_compression", "--enable", "--percentage", "7", *more)
    number = project.data("snapshot", "take", "--reason", "before")["id"]
    project.ok("flags", "set", "enable_context_compression", "--disable", *more)
    project.ok("snapshot", "restore", str(number), *more)
    flag = project.data("flags", "show", "enable_context_compression")
    assert (flag["enabled"], flag["percentage"]) == (True, 7)


def test_what_depends_on_v1_is_handed_over_by_the_written_migration(
    project: Project, tmp_path: Path
) -> None:
    project.make_pair("handed", stage="live")
    project.sql("""
        create table public.handed_parts (thing bigint constraint of_handed
          references public.handed on delete cascade);
        create view public.handed_notes as select id, note from public.handed;
        create view public.handed_bodies as select body from public.handed;
        insert into public.handed_parts values (1)""")
    (tmp_path / "supabase").mkdir()
    command = ("handover", "plan", "handed")
    text = project.ok(*command).stdout
    assert "to decide: it reads columns that version 2 does not have as they are (body)" in text
    found = project.data(*command, "--project", str(tmp_path))
    assert {item["object"]: item["is_repointed"] for item in found["objects"]} == {
        "of_handed of public.handed_parts": True,
        "public.handed_bodies": False,
        "public.handed_notes": True,
    }
    paths = [tmp_path / name for name in found["written"]]
    assert [path.read_text() for path in paths] == [found["sql"], found["check_sql"]]
    assert project.ok(*command, "--sql").stdout == f"{found['sql']}\n{found['check_sql']}"
    again = project.ok(*command, "--project", str(tmp_path))
    assert "nothing to do" in again.stderr
    assert len(list(tmp_path.rglob("*.sql"))) == 2
    for path in paths:
        project.sql(path.read_text())
    assert project.sql(
        "select confrelid::regclass::text, convalidated from pg_constraint"
        " where conname = 'of_handed'"
    ) == [("handed_v2", True)]
    assert project.sql("select count(*) from public.handed_notes") == [(100,)]
    assert [item["object"] for item in project.data(*command)["objects"]] == [
        "public.handed_bodies"
    ]


def test_a_removed_pair_leaves_its_tables(project: Project) -> None:
    project.make_pair("leaves")
    project.ok("stage", "set", "leaves", "off", "--reason", "test", "--yes")
    project.ok("pair", "remove", "leaves", "--reason", "test", "--yes")
    assert rows(project, "leaves") == 100
    assert "leaves" not in [pair["name"] for pair in project.data("pair", "list")]

"""The command line when things break: every kind of trouble is survived or is one clear line."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfade.core.contract import SCHEMA_VERSION, RunState
from crossfade.runs.backfill import run_backfill
from crossfade.runs.driver import DriveOptions
from crossfade.runs.progress import Progress
from tests.integration.cli_project import Project, running_project


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    with running_project(fresh_dir("trouble")) as running:
        yield running


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def count(project: Project, table: str) -> int:
    return int(project.sql(f"select count(*) from public.{table}")[0][0])


@pytest.mark.parametrize(
    ("env", "code", "named"),
    [
        ({"SUPABASE_SECRET_KEY": "sb_secret_of_another_project"}, 1, "refused the key"),
        ({"SUPABASE_SECRET_KEY": ""}, 2, "SUPABASE_SECRET_KEY is not"),
        ({"SUPABASE_URL": "http://127.0.0.1:9"}, 1, "Nothing answers at http://127.0.0.1:9"),
        ({"SUPABASE_URL": "abcdefgh"}, 2, '"abcdefgh"'),
    ],
)
def test_a_wrong_connection_is_one_line(
    project: Project, env: dict[str, str], code: int, named: str
) -> None:
    result = project.run("flags", "list", **env)
    assert result.exit_code == code
    assert len(result.stderr.strip().splitlines()) == 1
    assert named in result.stderr
    assert "sb_secret" not in result.stderr.replace("(sb_secret_...)", "")
    assert result.stdout == ""


def test_the_publishable_key_is_refused_by_name(project: Project) -> None:
    key = project.stack.info.publishable_key
    result = project.run("flags", "list", SUPABASE_SECRET_KEY=key)
    assert result.exit_code == 2
    assert "publishable" in result.stderr


def test_a_project_without_our_migrations_says_install(stack_root: Path) -> None:
    with running_project(stack_root / "empty", migrations=False) as empty:
        for command in (("flags", "list"), ("kill", "engage", "disable_v2_messages")):
            result = empty.run(*command)
            assert result.exit_code == 1
            assert len(result.stderr.strip().splitlines()) == 1, result.stderr
            assert "crossfade" in result.stderr
            assert "exposed" in result.stderr or "crossfade install" in result.stderr


def test_an_older_schema_is_refused_before_anything_changes(project: Project) -> None:
    project.sql("update crossfade.control set schema_version = 0")
    try:
        result = project.run("flags", "set", "enable_caching", "--enable", "--reason", "x", "--yes")
        assert result.exit_code == 1
        assert "older" in result.stderr
        assert project.run("kill", "engage", "disable_memory_system").exit_code == 0
    finally:
        project.sql(f"update crossfade.control set schema_version = {SCHEMA_VERSION}")
    project.ok("kill", "release", "disable_memory_system", "--reason", "test", "--yes")


def test_a_backfill_survives_a_restart_of_the_api(project: Project) -> None:
    project.make_pair("restarted", rows=20_000)
    seen: list[Progress] = []
    restarts = threading.Event()

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        if progress.run.rows_done > 2000 and not restarts.is_set():
            restarts.set()
            threading.Thread(target=project.stack.restart_api).start()

    options = DriveOptions(target_ms=10, on_progress=on_progress, patience_s=60)
    with project.gateway() as gateway:
        done = run_backfill(gateway, "restarted", options=options)
    assert restarts.is_set()
    assert done.state is RunState.FINISHED
    assert count(project, "restarted_v2") == 20_000


def test_ctrl_c_keeps_what_is_committed_and_the_same_command_continues(project: Project) -> None:
    project.make_pair("interrupted", rows=60_000)
    command = [sys.executable, "-m", "crossfade", "backfill", "run", "interrupted"]
    started = subprocess.Popen(
        [*command, "--target-ms", "10", "--yes"],
        env={**os.environ, **project.env},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while count(project, "interrupted_v2") < 2000 and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=30)
    copied = count(project, "interrupted_v2")
    assert started.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert last_line(stderr).endswith("crossfade backfill run interrupted")
    assert 2000 <= copied < 60_000
    again = project.ok("backfill", "run", "interrupted", "--yes")
    assert "continue run" in again.stderr
    assert count(project, "interrupted_v2") == 60_000


def test_several_workers_copy_every_row_once(project: Project) -> None:
    project.make_pair("shared", rows=30_000)
    done = project.data("backfill", "run", "shared", "--workers", "3", "--yes")
    assert (done["rows_done"], done["rows_written"]) == (30_000, 30_000)
    assert count(project, "shared_v2") == 30_000


def test_a_backfill_paused_elsewhere_stops_with_the_way_to_go_on(project: Project) -> None:
    project.make_pair("paused", rows=1000)
    project.ok("backfill", "start", "paused", "--yes")
    project.ok("backfill", "pause", "paused", "--reason", "peak hour", "--yes")
    result = project.run("backfill", "run", "paused", "--yes")
    assert result.exit_code == 1
    assert "crossfade backfill resume paused" in result.stderr
    project.ok("backfill", "resume", "paused", "--yes")
    project.ok("backfill", "run", "paused", "--yes")
    assert count(project, "paused_v2") == 1000

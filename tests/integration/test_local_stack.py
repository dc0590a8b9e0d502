"""Start, stop and recovery of the embedded stack: whatever happens, it comes back and goes away."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from crossfade.local import (
    LocalStack,
    LocalStackError,
    StackInfo,
    StackStartError,
    running_stack,
    stop_stack,
)

from .conftest import FIXTURES, small_stack

WAIT_S = 15.0
CLI = [sys.executable, "-m", "crossfade"]


@pytest.fixture(scope="module")
def folder(fresh_dir: Callable[[str], Path]) -> Path:
    """Give one data directory for the module: only the first start of a test makes a cluster."""
    return fresh_dir("lifecycle")


@pytest.fixture
def detached(folder: Path) -> Iterator[StackInfo]:
    info = small_stack(folder).start(attached=False)
    yield info
    stop_stack(folder)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that has a file of the data directory open; all parts have their log open."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            open_files = [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
            if process.pid != os.getpid() and any(str(folder) in file for file in open_files):
                found.append(process)
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def wait_gone(folder: Path) -> None:
    wait_until(lambda: not processes_of(folder), f"nothing of {folder} runs")


def answers(info: StackInfo) -> bool:
    """Whether gateway, database and function all do their work."""
    with contextlib.suppress(httpx.HTTPError):
        key = {"apikey": info.secret_key}
        rest = httpx.get(f"{info.api_url}/rest/v1/items?limit=1", headers=key)
        function = httpx.post(f"{info.functions_url}/echo")
        return rest.status_code == 200 and function.status_code == 200
    return False


def test_nothing_is_left_after_the_block(folder: Path) -> None:
    with small_stack(folder) as stack:
        assert answers(stack.info)
        assert stack.parts() == {"postgres": True, "gateway": True, "echo-0": True}
        assert processes_of(folder)
    wait_gone(folder)


def test_the_second_start_keeps_data_keys_and_ports_and_is_quick(folder: Path) -> None:
    with small_stack(folder) as stack:
        first = stack.info
        with psycopg.connect(first.db_url) as connection:
            connection.execute("insert into public.items (name) values ('kept')")
    begun = time.monotonic()
    with small_stack(folder) as stack:
        assert time.monotonic() - begun < 10
        assert stack.info == first
        with psycopg.connect(first.db_url) as connection:
            found = connection.execute("select from public.items where name = 'kept'").fetchall()
    assert found


def test_migrations_are_recorded_as_the_cli_records_them(folder: Path) -> None:
    with small_stack(folder) as stack, psycopg.connect(stack.info.db_url) as connection:
        rows = connection.execute(
            "select version, name, array_length(statements, 1)"
            " from supabase_migrations.schema_migrations order by version"
        ).fetchall()
    assert rows[0][:2] == ("20260101000000", "items")
    assert all(row[2] > 1 for row in rows)


def test_the_database_role_is_no_superuser_and_can_do_what_supabase_s_can(folder: Path) -> None:
    with small_stack(folder) as stack, psycopg.connect(stack.info.db_url) as connection:
        role = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication"
            " from pg_roles where rolname = current_user"
        ).fetchone()
        timestamps = connection.execute("show track_commit_timestamp").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table realtime.mine (id int)")
    assert role == (False, True, True, True, True)
    assert timestamps == ("on",)


def test_two_stacks_run_side_by_side(folder: Path, plain_stack: LocalStack) -> None:
    with small_stack(folder) as stack:
        assert stack.info.api_url != plain_stack.info.api_url
        assert stack.info.secret_key != plain_stack.info.secret_key
        assert answers(stack.info)
        assert answers(plain_stack.info)


def test_a_detached_stack_is_no_child_of_its_starter(detached: StackInfo) -> None:
    supervisor = psutil.Process(LocalStack(detached.data_dir).supervisor_pid)
    assert supervisor.ppid() != os.getpid()
    states = [child.status() for child in psutil.Process().children()]
    assert psutil.STATUS_ZOMBIE not in states


def test_a_folder_takes_one_stack_only(detached: StackInfo, folder: Path) -> None:
    with pytest.raises(StackStartError, match="already runs"):
        small_stack(folder).start()
    assert answers(detached)
    assert running_stack(folder) == detached


@pytest.mark.parametrize("part", ["postgres", "stack.ts", "index.ts"])
def test_a_killed_part_comes_back_by_itself(detached: StackInfo, folder: Path, part: str) -> None:
    victims = [process for process in processes_of(folder) if part in str(process.cmdline())]
    victims = [process for process in victims if process.parent() not in victims]
    assert len(victims) == 1
    victims[0].kill()
    wait_until(lambda: not victims[0].is_running() or victims[0].status() == "zombie", "it is dead")
    wait_until(lambda: answers(detached), f"{part} is back")


def test_parts_taken_down_on_purpose_stay_down_until_started(detached: StackInfo) -> None:
    stack = LocalStack(detached.data_dir)
    for part in ("isolate:0", "gateway", "postgres"):
        stack.kill(part)
    time.sleep(0.5)  # several rounds of the supervisor's watch
    assert set(stack.parts().values()) == {False}
    stack.start_missing()
    assert answers(detached)


def test_an_unknown_part_is_refused(detached: StackInfo) -> None:
    with pytest.raises(LocalStackError, match="parts: postgres, gateway, echo-0"):
        LocalStack(detached.data_dir).kill("redis")


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_start_recovers(
    folder: Path, detached: StackInfo
) -> None:
    os.kill(LocalStack(folder).supervisor_pid, signal.SIGKILL)
    wait_gone(folder)
    assert (folder / "state.json").exists()
    assert running_stack(folder) is None
    with small_stack(folder) as stack:
        assert answers(stack.info)
        assert stack.info.api_url == detached.api_url


def test_a_taken_port_is_replaced(folder: Path) -> None:
    with small_stack(folder) as stack:
        ports = [int(url.rsplit(":", 1)[1].split("/")[0]) for url in _urls(stack.info)]
    with contextlib.ExitStack() as taken:
        for port in ports:
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        with small_stack(folder) as stack:
            assert answers(stack.info)
            assert not set(_urls(stack.info)) & {f"http://127.0.0.1:{port}" for port in ports}


def _urls(info: StackInfo) -> list[str]:
    return [info.api_url, info.db_url]


def test_garbage_in_the_state_files_does_no_harm(folder: Path) -> None:
    with small_stack(folder):
        pass
    (folder / "state.json").write_text("{half")
    (folder / "postgres" / "postmaster.pid").write_text("1\n")
    with small_stack(folder) as stack:
        assert answers(stack.info)


def test_half_a_cluster_is_made_anew(stack_root: Path) -> None:
    data_dir = stack_root / "interrupted"
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    stack = LocalStack(data_dir, functions=(), migrations=False, pairs=(), durable=False)
    with stack, psycopg.connect(stack.info.db_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_start_that_is_interrupted_leaves_nothing(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from crossfade.local import LocalStack;"
        "LocalStack(Path(sys.argv[1]), functions=('echo',), pairs=(), migrations=False,"
        " functions_dir=Path(sys.argv[2]), durable=False,"
        " progress=lambda text: print(text, flush=True)).start()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(FIXTURES / "functions")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    for line in starter.stdout:
        if "gateway" in line:
            break
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_gone(folder)
    with small_stack(folder) as stack:
        assert answers(stack.info)


def test_no_request_hangs_when_postgres_dies_under_load(folder: Path) -> None:
    with small_stack(folder) as stack:
        slow: list[str] = []
        over = threading.Event()

        def ask() -> None:
            headers = {"apikey": stack.info.secret_key}
            with httpx.Client(base_url=stack.info.api_url, headers=headers, timeout=5) as http:
                while not over.is_set():
                    try:
                        http.get("/rest/v1/items?select=id&limit=1")
                    except httpx.TimeoutException as error:
                        slow.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            time.sleep(0.4)
            stack.kill("postgres")
            stack.start_missing()
        over.set()
        for thread in threads:
            thread.join(WAIT_S)
        assert slow == []
        assert answers(stack.info)


def test_the_death_of_the_starting_process_ends_an_attached_stack(folder: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from crossfade.local import LocalStack;"
        "LocalStack(Path(sys.argv[1]), functions=(), pairs=(), migrations=False,"
        " durable=False).start(); print('up', flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_gone(folder)


def test_a_failing_migration_is_one_clear_line_and_leaves_nothing(stack_root: Path) -> None:
    migrations = stack_root / "bad_migrations"
    migrations.mkdir()
    (migrations / "20260101000000_good.sql").write_text("create table public.good (id int);")
    (migrations / "20260101000001_bad.sql").write_text("select 1; select nothing_like_it();")
    data_dir = stack_root / "failing"
    stack = LocalStack(data_dir, functions=(), pairs=(), migrations_dir=migrations, durable=False)
    with pytest.raises(StackStartError, match=r"20260101000001_bad\.sql failed: function noth"):
        stack.start()
    wait_gone(data_dir)


def test_an_older_postgres_does_the_same(stack_root: Path) -> None:
    stack = small_stack(stack_root / "older", postgres_version=16)
    with stack, psycopg.connect(stack.info.db_url) as connection:
        version = connection.execute("show server_version_num").fetchone()
        connection.execute("select realtime.send('{}', 'e', 't')")
        sent = connection.execute("select count(*) from realtime.messages").fetchone()
        assert answers(stack.info)
    assert version is not None
    assert version[0].startswith("16")
    assert sent == (1,)


def test_a_cluster_of_another_version_is_refused(stack_root: Path, folder: Path) -> None:
    with small_stack(folder):
        pass
    with pytest.raises(StackStartError, match="is of PostgreSQL 18, the server is 16"):
        small_stack(folder, postgres_version=16).start()


def test_a_missing_function_is_named(stack_root: Path) -> None:
    stack = LocalStack(
        stack_root / "missing", functions=("nobody",), pairs=(), migrations=False, durable=False
    )
    with pytest.raises(StackStartError, match='Cannot start function "nobody"'):
        stack.start()


def test_up_and_down_print_json_and_agree_with_each_other(stack_root: Path) -> None:
    data_dir = stack_root / "cli"
    environment = {**os.environ, "CROSSFADE_DATA_DIR": str(data_dir)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )

    both = ("--function", "chat", "--function", "ofrep", "--isolates", "1")
    up = run("up", *both, "--json")
    assert up.returncode == 0, up.stderr
    info = json.loads(up.stdout)
    assert set(info) == {
        *("api_url", "db_url", "publishable_key", "secret_key", "functions_url", "data_dir")
    }
    assert json.loads(run("up", "--json").stdout) == info
    assert httpx.get(f"{info['api_url']}/health").status_code == 200
    flag = f"{info['functions_url']}/ofrep/v1/evaluate/flags/use_advanced_messages"
    assert httpx.post(flag, json={}, headers={"X-API-Key": info["secret_key"]}).json()["value"]
    assert json.loads(run("down", "--json").stdout)["stopped"] is True
    wait_gone(data_dir)
    assert json.loads(run("down", "--json").stdout)["stopped"] is False


def test_ctrl_c_stops_a_stack_in_the_foreground(folder: Path) -> None:
    process = subprocess.Popen(
        [*CLI, "up", "--foreground", "--json", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["api_url"]
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 0
    process.stdout.close()
    wait_gone(folder)

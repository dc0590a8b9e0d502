"""The edge's compatibility layer, in Deno, through the real RPCs of a running project."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

from crossfade.local.deno_runtime import deno_bin, deno_environment

from .chat_project import Project

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "integration" / "fixtures" / "compatibility.ts"
CONFIG = ROOT / "supabase" / "functions" / "chat" / "deno.json"


# More than one batch, so that a run can be stopped in the middle.
HISTORY = 5_000


def run_script(project: Project) -> dict[str, Any]:
    """Run all steps; return what each one told."""
    result = subprocess.run(
        [
            str(deno_bin()),
            *("run", "--quiet", "--no-check", "--no-prompt", "--frozen", "--allow-all"),
            *("--config", str(CONFIG), str(SCRIPT)),
            *(project.info.api_url, project.info.secret_key),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=deno_environment(),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {line["step"]: line["found"] for line in lines}


def add_messages(project: Project, contents: list[str]) -> list[str]:
    chat, user = str(uuid.uuid4()), str(uuid.uuid4())
    project.sql("insert into public.chats (id, user_id) values (%s, %s)", chat, user)
    ids = [str(uuid.uuid4()) for _ in contents]
    for message, content in zip(ids, contents, strict=True):
        project.sql(
            "insert into public.chat_messages (id, chat_id, user_id, role, content)"
            " values (%s, %s, %s, 'user', %s)",
            *(message, chat, user, content),
        )
    return ids


def add_many(project: Project, count: int) -> None:
    chat = str(uuid.uuid4())
    project.sql("insert into public.chats (id, user_id) values (%s, %s)", chat, chat)
    project.sql(
        "insert into public.chat_messages (chat_id, role, content)"
        " select %s, 'user', 'old ' || n from generate_series(1, %s) n",
        *(chat, count),
    )


def test_the_layer_follows_a_migration_through_the_rpcs(project: Project) -> None:
    project.at("off")
    add_many(project, HISTORY)
    project.at("dualwrite")
    # V2 refuses one of them for a while: the pair's policy lets the write itself succeed.
    project.sql(
        "alter table public.chat_messages_v2 add constraint no_boom"
        " check (content::text not like '%%boom%%') not valid"
    )
    lost, _ = add_messages(project, ["kept", "boom"])
    project.sql("alter table public.chat_messages_v2 drop constraint no_boom")
    project.set_flag("enable_caching", enabled=True)
    try:
        project.unmirrored(2, "delete from {table} where id = %s", lost)
        told = run_script(project)
    finally:
        project.set_flag("enable_caching", enabled=False)

    assert told["behind"]["failurePolicy"] == "record"
    assert (told["behind"]["mirrored"], told["behind"]["openFailures"]) == (True, 1)
    assert told["paused"] == "paused"
    progress = told["progress"]
    assert (progress["state"], progress["doneRate"], progress["secondsLeft"]) == ("finished", 1, 0)
    assert progress["rowsDone"] >= HISTORY
    assert told["settled"]["settled"] is True
    assert told["after"]["openFailures"] == 0
    assert told["violations"] == [[], []]
    tables = project.sql(
        "select (select count(*) from public.chat_messages) one,"
        " (select count(*) from public.chat_messages_v2) two"
    )
    assert tables[0]["one"] == tables[0]["two"]
    assert [step["object"] for step in told["plan"]] == ["enable_caching"]
    assert told["rolled back"] == [told["plan"], True, 1]
    assert told["undone"][1] > told["undone"][0]
    assert told["undone"] == sorted(told["undone"])

"""A running project with the chat function, and people who use it."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from supabase import Client, ClientOptions, create_client

from crossfade.local import LocalStack, StackInfo

PAIR = "chat_messages"
# They name V1 and read the table that serves, so they may stay when V1 is an archive.
DEPENDENTS = [
    "public.copy_chat_message(uuid)",
    "public.search_chat_messages(text,integer,integer)",
]
STAGES = ["off", "dualwrite", "shadow", "live", "rampdown", "complete"]
SERVED_BY = {"off": 1, "dualwrite": 1, "shadow": 1, "live": 2, "rampdown": 2, "complete": 2}
PATIENCE_S = 15.0
# What a stage waits for beyond proof: traffic and time.
PATIENT_SETTINGS: dict[str, tuple[str, ...]] = {
    "dualwrite": (),
    "shadow": (),
    "live": ("shadow_min_reads", "shadow_match_rate"),
    "rampdown": (),
    "complete": ("stage_bake_s",),
}
Json = dict[str, Any]


def eventually(check: Callable[[], bool], what: str) -> None:
    """Poll until it holds; the parts that are waited for run in other processes."""
    end = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < end, f"did not happen within {PATIENCE_S} s: {what}"
        time.sleep(0.05)


class Project:
    """The running project, with the control plane's rights."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.info: StackInfo = stack.info
        self.http = httpx.Client(timeout=30)
        self._admin = self.client(self.info.secret_key)
        self.stage = "off"

    def client(self, key: str) -> Client:
        """Return a client that holds no session and shares one connection pool."""
        options = ClientOptions(
            auto_refresh_token=False, persist_session=False, httpx_client=self.http
        )
        return create_client(self.info.api_url, key, options)

    def rpc(self, function: str, /, **parameters: Any) -> Json:
        answer: Any = self._admin.schema("crossfade").rpc(function, parameters).execute().data
        assert isinstance(answer, dict)
        return answer

    def sql(self, query: str, *values: Any) -> list[Json]:
        with psycopg.connect(self.info.db_url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def logs(self) -> str:
        """Return what all processes of the function have logged."""
        folder = Path(self.info.data_dir)
        return "".join(path.read_text("utf-8") for path in folder.rglob("chat*.log"))

    def flush(self) -> None:
        """Make what is committed survive a kill of the database.

        The stack of the tests answers before it has written; one commit that waits takes all
        earlier ones along.
        """
        with psycopg.connect(self.info.db_url) as connection:
            connection.execute("set synchronous_commit = on")
            connection.execute("create temporary table flushed (n integer)")

    def unmirrored(self, version: int, query: str, *values: Any) -> None:
        """Change one table behind the mirror's back, as the restore of a dump does."""
        table = "public.chat_messages" if version == 1 else "public.chat_messages_v2"
        with psycopg.connect(self.info.admin_db_url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(query.format(table=table).encode(), values)

    def at(self, stage: str) -> None:
        """Bring the pair to a stage by the documented steps; live serves everybody from V2."""
        # A rollback moves it, too.
        [pair] = self.sql("select stage from crossfade.pairs where name = %s", PAIR)
        self.stage = str(pair["stage"])
        if self.stage == "complete" and stage != "complete":
            self._run("start_backfill", "backfill_batch", direction="v2_to_v1")
            self._run("start_verify", "verify_batch")
            self._set("rampdown")
        while STAGES.index(self.stage) < STAGES.index(stage):
            self._forward(STAGES[STAGES.index(self.stage) + 1])
        if self.stage != stage:
            self._set(stage)

    def _forward(self, stage: str) -> None:
        if stage == "shadow":
            self._run("start_backfill", "backfill_batch")
        if stage in ("live", "complete"):
            self._run("start_verify", "verify_batch")
        if stage == "complete":
            self.rpc("ignore_dependents", pair=PAIR, names=DEPENDENTS, reason="they know V2")
        for name in PATIENT_SETTINGS[stage]:
            self.rpc("set_setting", name=name, value="0", reason="tests cannot wait")
        self._set(stage)
        if stage == "live":
            self.set_cohort(percentage=100)

    def _set(self, stage: str) -> None:
        self.rpc("set_stage", pair=PAIR, stage=stage, reason="test", confirm=True)
        self.stage = stage

    def _run(self, start: str, batch: str, **options: str) -> None:
        run = self.rpc(start, pair=PAIR, **options)["run"]["id"]
        end = time.monotonic() + PATIENCE_S
        while (answer := self.rpc(batch, run=run, target_ms=500))["state"] != "finished":
            assert time.monotonic() < end, f"{start} does not end: {answer}"
            time.sleep(0.05)

    def set_flag(self, name: str, *, enabled: bool) -> None:
        changes = {"enabled": enabled, "percentage": 100 if enabled else 0}
        self.rpc("set_flag", name=name, changes=changes, reason="test")

    def kill(self, name: str) -> None:
        self.rpc("engage_kill_switch", name=name, reason="test")

    def release(self, name: str) -> None:
        self.rpc("release_kill_switch", name=name, reason="test")

    def set_setting(self, name: str, value: Any) -> None:
        self.rpc("set_setting", name=name, value=value, reason="test")

    def set_cohort(self, **changes: Any) -> None:
        self.rpc("set_cohort", pair=PAIR, changes=changes, reason="test")

    def flags_version(self) -> int:
        return int(self.sql("select crossfade.flags_version() as version")[0]["version"])

    def requests(self, outcome: str) -> int:
        query = """
          select coalesce(sum(requests), 0)::int as n from crossfade.request_minutes
          where outcome = %s
        """
        return int(self.sql(query, outcome)[0]["n"])

    def row(self, version: int, message: str) -> Json | None:
        table = "chat_messages" if version == 1 else "chat_messages_v2"
        rows = self.sql(f"select * from public.{table} where id = %s", message)
        return rows[0] if rows else None


@dataclass
class User:
    """A signed-in user of the chat function."""

    http: httpx.Client
    id: str
    url: str

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, self.url + path, json=body, headers=names)

    def new_chat(self) -> str:
        answer = self.ask("POST", "/chats", {"title": "test"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def say(self, chat: str, text: str = "hello", version: int = 1, **headers: str) -> Any:
        content: Any = text if version == 1 else [{"type": "text", "text": text}]
        body = {"chat_id": chat, "role": "user", "content": content}
        return self.ask("POST", f"/v{version}/messages", body, **headers)

    def catch_up(self, project: Project) -> None:
        """Wait until every process behind this user's address has heard of the last change.

        Each answer says the version it was made with; one process hears of a newer one only by
        time or broadcast, so two answers in a row may come from two processes.
        """
        wanted = project.flags_version()

        def fresh() -> bool:
            path = f"/messages?chat_id={uuid.uuid4()}"
            answers = [self.ask("GET", path) for _ in range(4)]
            return all(int(a.headers["x-crossfade-flags-version"]) >= wanted for a in answers)

        eventually(fresh, f"isolates know flags version {wanted}")


def sign_up_user(project: Project, url: str | None = None) -> User:
    """Sign somebody up; `url` is another address of the function, such as one process's own."""
    auth = project.client(project.info.publishable_key).auth
    email = f"{uuid.uuid4().hex}@example.com"
    session = auth.sign_up({"email": email, "password": "correct horse battery"}).session
    assert session is not None
    headers = {
        "Authorization": f"Bearer {session.access_token}",
        "apikey": project.info.publishable_key,
    }
    http = httpx.Client(headers=headers, timeout=30)
    address = url or f"{project.info.api_url}/functions/v1/chat"
    return User(http=http, id=session.user.id, url=address)


def content_of(text: str, version: int) -> Any:
    """Return a text as the content of a message."""
    return text if version == 1 else [{"type": "text", "text": text}]

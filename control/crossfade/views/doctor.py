"""What is wrong with a project and what to do about it. Pure: facts -> findings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from crossfade import __version__
from crossfade.core.contract import SCHEMA_VERSION
from crossfade.core.errors import CrossfadeError
from crossfade.core.versions import UPGRADE_COMMAND, UPGRADE_DATABASE, way_out

CLOCK_WARN_S: Final = 2.0
CLOCK_FAIL_S: Final = 60.0
POSTGRES: Final = range(15, 19)
SHORTEST_TIMEOUT_S: Final = 5.0
"""Batches aim at half a second, and a kill waits half a second more: ten times that is safe."""


class State(StrEnum):
    """How a finding counts. Only FAIL makes the exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``do`` says how to mend it; empty when nothing is wrong."""

    check: str
    state: State
    what: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts of the database. ``offset_s``: its clock ahead of this machine's."""

    at: datetime
    postgres_version: int
    statement_timeout: str
    lock_timeout: str
    has_cron: bool
    has_realtime: bool
    has_auth: bool
    admins: int
    role: str | None = None
    offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One row of a check of ``sql/checks``."""

    check_name: str
    object: str
    problem: str
    hint: str


def failed(check: str, error: CrossfadeError) -> Finding:
    """What could not be looked at, with the way out that the error knows."""
    return Finding(check, State.FAIL, error.message, error.hint)


def judge_key(key: str, *, is_person: bool) -> Finding:
    """Which kind of key is used."""
    if is_person:
        return Finding("key", State.OK, "a sign-in, and a publishable key")
    if key.startswith("sb_secret_"):
        return Finding("key", State.OK, "a secret key (sb_secret_...)")
    if key.startswith("eyJ"):
        return Finding(
            "key",
            State.WARN,
            "a legacy service_role key, which Supabase is about to end",
            "Take a secret key (sb_secret_...) from the project's settings, API keys",
        )
    return Finding("key", State.WARN, "a key of a kind that is not known", "Use sb_secret_...")


def judge_schema(version: int, release: str = __version__) -> Finding:
    """Whether the database and this command belong together.

    Args:
        version: of the schema.
        release: the one that was installed last.
    """
    if version > SCHEMA_VERSION:
        return Finding(
            "schema",
            State.WARN,
            f"schema version {version} is newer than this command ({SCHEMA_VERSION})",
            UPGRADE_COMMAND,
        )
    what, _, do = way_out(release).partition(". ")
    if what:
        return Finding("schema", State.WARN, what, do)
    return Finding("schema", State.OK, f"exposed, version {version}")


def judge_unknown_checks(names: Sequence[str], release: str) -> list[Finding]:
    """Checks whose text is not the one that the database knows; of another release, as a rule."""
    if not names:
        return []
    do = way_out(release).partition(". ")[2] or UPGRADE_DATABASE
    what = f"not run, the database has others or none of these names: {', '.join(names)}"
    return [Finding("checks", State.WARN, what, do)]


def judge_database(facts: Diagnosis) -> list[Finding]:
    """Clock, version, timeouts, and what else the database has."""
    return [
        _clock(facts.offset_s),
        _postgres(facts.postgres_version),
        _timeout(facts.statement_timeout),
        _present(
            "pg_cron",
            facts.has_cron,
            "runs and the watch can drive themselves",
            "not installed: somebody has to keep backfill and monitor running",
            "create extension pg_cron, or run crossfade monitor where it stays up",
        ),
        _present(
            "auth",
            facts.has_auth and facts.admins > 0,
            f"{facts.admins} admin(s) can sign in",
            "nobody can sign in as admin: the secret key is the only way in",
            'crossfade operator add EMAIL --role admin --reason "..."',
        ),
    ]


def _clock(offset_s: float) -> Finding:
    state = State.OK
    if abs(offset_s) >= CLOCK_WARN_S:
        state = State.FAIL if abs(offset_s) >= CLOCK_FAIL_S else State.WARN
    side = "ahead of" if offset_s >= 0 else "behind"
    do = (
        "" if state is State.OK else "Set this machine's clock: sign-ins and schedules depend on it"
    )
    return Finding("clock", state, f"the database is {abs(offset_s):.1f} s {side} this machine", do)


def _postgres(number: int) -> Finding:
    major = number // 10_000
    if major in POSTGRES:
        return Finding("postgres", State.OK, f"version {major}")
    oldest, newest = POSTGRES[0], POSTGRES[-1]
    return Finding(
        "postgres",
        State.FAIL if major < oldest else State.WARN,
        f"version {major} is not among those that are tested ({oldest} to {newest})",
        "Upgrade the project's database" if major < oldest else "Upgrade crossfade",
    )


def _timeout(text: str) -> Finding:
    seconds = parse_duration_s(text)
    if seconds == 0 or seconds >= SHORTEST_TIMEOUT_S:
        shown = "none" if seconds == 0 else text
        return Finding("timeouts", State.OK, f"statement_timeout of a request: {shown}")
    return Finding(
        "timeouts",
        State.FAIL,
        f"statement_timeout of a request is {text}: batches and rollbacks would be cut off",
        "alter role service_role set statement_timeout = '60s'; then notify pgrst, 'reload config'",
    )


def parse_duration_s(text: str) -> float:
    """A duration as PostgreSQL shows it (``8s``, ``500ms``, ``1min``, ``0``) in seconds."""
    found = re.fullmatch(r"(\d+)\s*(us|ms|s|min|h|d)?", text.strip())
    if not found:
        return 0.0
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    return int(found[1]) * units.get(found[2] or "ms", 1e-3)


def _present(check: str, there: bool, good: str, bad: str, do: str) -> Finding:
    return Finding(check, State.OK, good) if there else Finding(check, State.WARN, bad, do)


def judge_realtime(has_realtime: bool, problem: str | None) -> Finding:
    """Whether a listener can join; the database's own messages need realtime.send."""
    if problem is not None:
        return Finding(
            "realtime",
            State.WARN,
            f"cannot join the control topic: {problem}",
            "Kills still act at once in the database and within 5 s at the edge; allow WebSocket"
            " connections, and check that Realtime is enabled",
        )
    if not has_realtime:
        return Finding(
            "realtime",
            State.WARN,
            "realtime.send does not exist: the database cannot send hints",
            "Enable Realtime for the project",
        )
    return Finding("realtime", State.OK, "joined the control topic")


def judge_check(name: str, rows: tuple[CheckRow, ...]) -> list[Finding]:
    """Rows of a check of ``sql/checks``; none is healthy."""
    if not rows:
        return [Finding(name, State.OK, "nothing found")]
    return [Finding(name, State.FAIL, f"{row.object}: {row.problem}", row.hint) for row in rows]


def judge_alerts(targets: int) -> Finding:
    """Whether anybody is told."""
    return _present(
        "alerts",
        targets > 0,
        f"{targets} target(s); try them with: crossfade alerts test",
        "no target on this machine: alerts go to the log only",
        "Set CROSSFADE_ALERTS where the monitor runs",
    )


def counts(findings: tuple[Finding, ...]) -> Mapping[State, int]:
    """How many of each."""
    return {state: sum(item.state is state for item in findings) for state in State}

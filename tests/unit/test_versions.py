"""Command and database of different releases: one line with what to upgrade; stops work."""

import json
import re
from collections.abc import Callable

import httpx
import pytest
import respx
from pydantic import SecretStr
from tests.emergency_calls import CALLS
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade import __version__
from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.core.contract import SCHEMA_VERSION, ErrorCode, Level
from crossfade.core.errors import OlderSchemaError, UnexpectedAnswerError, UnknownCallError, refusal
from crossfade.core.versions import explained, way_out
from crossfade.gateway import SupabaseGateway
from crossfade.project.config import Connection
from crossfade.testing import FakeGateway

DATABASE, COMMAND = "crossfade upgrade, then: supabase db push", "pip install --upgrade crossfade"
STOPS = [
    ("kill", "engage", "disable_v2_messages"),
    ("kill", "list"),
    ("kill", "release", "disable_v2_messages", "--reason", "r", "--yes"),
    ("rollback", "run", "--level", "COMPLETE", "--pair", "notes", "--reason", "r", "--yes"),
    ("rollback", "list"),
    ("status",),
]
CHANGE = ("flags", "set", "enable_caching", "--percentage", "7", "--reason", "r", "--yes")


def run(fake: FakeGateway, *args: str) -> Result:
    return CliRunner().invoke(app, list(args), obj=Session(opened=fake))


def older(fake: FakeGateway) -> FakeGateway:
    fake.fail("check_schema", OlderSchemaError("it is older", hint=f"Run: {DATABASE}"))
    return fake


def newer(fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    monkeypatch.setattr(fake, "check_schema", lambda: SCHEMA_VERSION + 1)
    return fake


@pytest.mark.parametrize(
    ("database", "command", "told"),
    [
        ("0.2.0", "0.2.0", ""),
        ("0.2.0", "0.2.0rc1", ""),
        ("0.2.0", "0.3.0", f"The database has crossfade 0.2.0, this command 0.3.0. .*{DATABASE}"),
        ("0.10.0", "0.9.0", f"The database has crossfade 0.10.0, this .* {COMMAND}"),
        ("", "0.3.0", f".* of an older release, this command 0.3.0. .*{DATABASE}"),
    ],
)
def test_the_older_of_two_releases_is_upgraded(database: str, command: str, told: str) -> None:
    found = way_out(database, command)
    assert "\n" not in found
    assert re.fullmatch(told, found)


@pytest.mark.parametrize("command", STOPS, ids=" ".join)
def test_what_stops_and_shows_works_with_an_older_database_and_says_so(
    command: tuple[str, ...],
) -> None:
    result = run(older(project()), *command)
    assert result.exit_code in (0, 3), result.output
    if command[:2] != ("kill", "engage"):  # which asks for nothing first
        assert f"Warning: it is older. Run: {DATABASE}" in result.stderr.splitlines()


def test_what_changes_something_is_refused_with_an_older_database() -> None:
    fake = older(project())
    result = run(fake, *CHANGE)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"Error: it is older. Run: {DATABASE}"]
    assert fake.changed() == ()


@pytest.mark.parametrize("command", [*STOPS, CHANGE], ids=" ".join)
def test_an_older_command_works_with_a_newer_database_and_says_so(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(newer(project(), monkeypatch), *command)
    assert result.exit_code in (0, 3), result.output
    if command[:2] != ("kill", "engage"):
        (warning,) = [line for line in result.stderr.splitlines() if "Warning" in line]
        assert f"is newer than {SCHEMA_VERSION}" in warning
        assert warning.endswith(COMMAND)


@pytest.mark.parametrize(
    ("release", "way"), [("0.1.9", DATABASE), ("99.0.0", COMMAND), (__version__, "install it")]
)
@pytest.mark.parametrize("kind", [UnknownCallError, UnexpectedAnswerError])
def test_a_call_that_the_database_does_not_know_is_one_line_with_what_to_upgrade(
    kind: type[UnknownCallError], release: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = project()
    monkeypatch.setattr(fake, "installed_release", lambda: release)
    error = kind("crossfade.set_flag does not exist", hint="install it", code="PGRST202")
    fake.fail("set_flag", error)
    result = run(fake, *CHANGE)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: crossfade.set_flag does not exist [PGRST202]. ")
    assert last.endswith(way)
    assert "Traceback" not in result.output


def test_another_error_asks_for_no_release() -> None:
    fake = project()
    fake.fail("set_flag", refusal(ErrorCode.UNKNOWN_FLAG, "no such flag"))
    result = run(fake, *CHANGE)
    assert "no such flag" in result.stderr.splitlines()[-1]
    assert "installed_release" not in fake.calls


def test_an_error_stays_what_it_is_when_both_are_of_one_release() -> None:
    error = UnknownCallError("gone", hint="h")
    assert explained(error, __version__) is error


@pytest.mark.parametrize("break_it", [older, None], ids=["older", "newer"])
def test_doctor_goes_on_and_names_the_checks_it_could_not_run_in_one_line(
    break_it: Callable[[FakeGateway], FakeGateway] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = break_it(project()) if break_it else newer(project(), monkeypatch)
    monkeypatch.setattr(fake, "installed_release", lambda: "99.0.0")
    for _ in range(3):
        fake.fail("run_check", refusal(ErrorCode.INVALID_ARGUMENT, "not the one of this schema"))
    result = run(fake, "doctor", "--json")
    assert result.exit_code == (1 if break_it else 0)
    found = {item["check"]: item for item in json.loads(result.stdout)}
    assert found["schema"]["do"].endswith(DATABASE if break_it else COMMAND)
    assert "postgres" in found, "the rest is looked at"
    named = found["checks"]["what"]
    assert len(named.split(": ")[1].split(", ")) == 3
    assert found["checks"]["do"].endswith(DATABASE if break_it else COMMAND)


@respx.mock
def test_what_stops_and_shows_sends_what_every_release_takes() -> None:
    url = "https://abcdefgh.supabase.co"
    sent: dict[str, frozenset[str]] = {}

    def note(request: httpx.Request) -> httpx.Response:
        sent[request.url.path.rsplit("/", 1)[1]] = frozenset(json.loads(request.content or "{}"))
        return httpx.Response(400, json={"code": "22P02", "message": "seen enough"})

    respx.post(url__startswith=f"{url}/rest/v1/rpc/").mock(side_effect=note)
    key = SecretStr("sb_secret_0123456789abcdefghijkl_01234567")
    with SupabaseGateway(Connection(url, key, "a")) as gateway:
        for call in (
            lambda: gateway.engage_kill_switch("k", reason=None),
            lambda: gateway.release_kill_switch("k", reason="r"),
            lambda: gateway.rollback(
                Level.COMPLETE, "p", reason="r", automatic=False, dry_run=False, expected_step=1
            ),
            gateway.overview,
            gateway.pair_status,
            gateway.read_flags,
        ):
            with pytest.raises(UnexpectedAnswerError):
                call()
    assert sent == CALLS

"""What doctor says, and that every bad finding says what to do."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
from tests.unit.builders import ROOT, project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.core.errors import NotInstalledError
from crossfade.testing import FakeGateway
from crossfade.views import doctor
from crossfade.views.doctor import CheckRow, Finding, State, parse_duration_s

CHECKS = {path.stem: path for path in (ROOT / "sql" / "checks").glob("*.sql")}


def run(fake: FakeGateway, *args: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *args], obj=Session(opened=fake))


def test_the_schema_knows_every_check_by_its_digest() -> None:
    source = (ROOT / "sql/schema/views/doctor.sql").read_text("utf-8")
    known = dict(re.findall(r"\('(\w+)',\s*'([0-9a-f]{64})'\)", source))
    digests = {n: hashlib.sha256(path.read_bytes()).hexdigest() for n, path in CHECKS.items()}
    assert known == digests, "sql/checks has changed: write the digests into the source"


def test_a_healthy_project_is_exit_0_and_every_check_was_asked() -> None:
    fake = project()
    result = run(fake, "--json")
    assert result.exit_code == 0, result.output
    found = {row["check"]: row["state"] for row in json.loads(result.stdout)}
    assert set(CHECKS) <= set(found)
    assert State.FAIL not in found.values()
    assert fake.changed() == ()


def test_a_row_of_a_check_fails_with_its_hint() -> None:
    fake = project()
    fake.check_rows["drift"] = (CheckRow("drift", "notes", "3 writes", "crossfade verify run"),)
    result = run(fake)
    assert result.exit_code == 1
    assert "notes: 3 writes" in result.stdout
    assert "crossfade verify run" in result.stdout
    assert "1 fail" in result.stderr


def test_what_cannot_be_asked_is_a_finding_and_no_traceback() -> None:
    fake = project()
    fake.fail("run_check", NotInstalledError("older", hint="crossfade install"))
    result = run(fake)
    assert result.exit_code == 1
    assert "crossfade install" in result.stdout
    assert fake.calls.count("run_check") == len(CHECKS)


def test_without_a_schema_doctor_says_how_to_install_it() -> None:
    fake = project()
    fake.fail("check_schema", NotInstalledError("not exposed", hint="expose it"))
    result = run(fake)
    assert result.exit_code == 1
    assert "expose it" in result.stdout


def states(findings: list[Finding]) -> dict[str, State]:
    return {item.check: item.state for item in findings}


@pytest.mark.parametrize(
    ("change", "check", "state"),
    [
        ({}, "clock", State.OK),
        ({"offset_s": -1.9}, "clock", State.OK),
        ({"offset_s": 2.0}, "clock", State.WARN),
        ({"offset_s": -61.0}, "clock", State.FAIL),
        ({"postgres_version": 150004}, "postgres", State.OK),
        ({"postgres_version": 140004}, "postgres", State.FAIL),
        ({"postgres_version": 190001}, "postgres", State.WARN),
        ({"statement_timeout": "3s"}, "timeouts", State.FAIL),
        ({"statement_timeout": "8s"}, "timeouts", State.OK),
        ({"statement_timeout": "0"}, "timeouts", State.OK),
        ({"has_cron": False}, "pg_cron", State.WARN),
        ({"admins": 0}, "auth", State.WARN),
    ],
)
def test_facts_are_judged_at_their_limits(
    change: dict[str, object], check: str, state: State
) -> None:
    facts = replace(project().diagnosis, **change)  # type: ignore[arg-type]
    assert states(doctor.judge_database(facts))[check] is state


def test_every_finding_that_is_not_ok_says_what_to_do() -> None:
    facts = replace(
        project().diagnosis, offset_s=99, postgres_version=130000, statement_timeout="1s",
        has_cron=False, has_auth=False,
    )  # fmt: skip
    bad = [
        *doctor.judge_database(facts),
        doctor.judge_key("eyJhbGciOi", is_person=False),
        doctor.judge_key("what", is_person=False),
        doctor.judge_schema(99),
        doctor.judge_realtime(True, "refused"),
        doctor.judge_realtime(False, None),
        doctor.judge_alerts(0),
    ]
    assert all(item.state is not State.OK and item.do for item in bad), bad


def test_a_key_is_judged_and_never_shown() -> None:
    for key in ("sb_secret_0123456789", "eyJabc.def.ghi"):
        assert key not in repr(doctor.judge_key(key, is_person=False))
    assert doctor.judge_key("sb_secret_x", is_person=False).state is State.OK
    assert doctor.judge_key("sb_publishable_x", is_person=True).state is State.OK


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("500ms", 0.5), ("8s", 8), ("1min", 60), ("2h", 7200)]
)
def test_durations_as_postgres_shows_them(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds

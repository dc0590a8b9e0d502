"""A command that is older or newer than the database, over the real Data API."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crossfade import __version__
from crossfade.core.contract import SCHEMA_VERSION
from tests.integration.cli_project import Project, running_project

DATABASE, COMMAND = "crossfade upgrade, then: supabase db push", "pip install --upgrade crossfade"
ROLLBACK = ("rollback", "run", "--level", "COMPLETE", "--pair", "aged", "--reason", "r", "--yes")
SETTING = ("settings", "set", "kill_wait_ms", "77", "--reason", "r", "--yes")
SIGNATURE = "crossfade.set_setting(text, text, text)"
GONE = f"alter function {SIGNATURE} rename to set_setting_was"
BACK = "alter function crossfade.set_setting_was(text, text, text) rename to set_setting"
OTHER = """create function crossfade.set_setting(setting text, new_value text, why text)
returns jsonb language sql as 'select null::jsonb';
grant execute on function crossfade.set_setting(text, text, text) to service_role"""


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    with running_project(fresh_dir("versions")) as running:
        running.make_pair("aged", stage="shadow")
        yield running


@contextmanager
def database_of(project: Project, *, schema: int = SCHEMA_VERSION, release: str) -> Iterator[None]:
    """Let the database say that it is of another release."""
    change = "update crossfade.control set schema_version = {}, release = '{}'"
    project.sql(change.format(schema, release))
    yield
    project.sql(change.format(SCHEMA_VERSION, __version__))


@pytest.mark.parametrize(
    ("schema", "release", "way_out"),
    [(SCHEMA_VERSION - 1, "0.1.9", DATABASE), (SCHEMA_VERSION + 1, "99.0.0", COMMAND)],
    ids=["database older", "database newer"],
)
def test_stopping_going_back_and_looking_work_in_both_directions(
    project: Project, schema: int, release: str, way_out: str
) -> None:
    with database_of(project, schema=schema, release=release):
        for command in (
            ("kill", "engage", "emergency_rollback", "--wait", "0"),
            ("status",),
            ("kill", "release", "emergency_rollback", "--reason", "r", "--yes"),
            ROLLBACK,
            ("rollback", "list"),
        ):
            result = project.run(*command)
            assert result.exit_code in (0, 3), f"{command}: {result.output}"
            assert "Traceback" not in result.output
            told = [line for line in result.stderr.splitlines() if way_out in line]
            assert len(told) == (0 if command[:2] == ("kill", "engage") else 1)
        assert project.sql("select engaged from crossfade.kill_switches"
                           " where name = 'emergency_rollback'") == [(False,)]  # fmt: skip


def test_with_an_older_database_nothing_is_changed_and_one_line_says_why(project: Project) -> None:
    with database_of(project, schema=SCHEMA_VERSION - 1, release="0.1.9"):
        result = project.run(*SETTING)
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert f"Schema version {SCHEMA_VERSION - 1}" in line
    assert line.endswith(DATABASE)


@pytest.mark.parametrize(("release", "way_out"), [("0.1.9", DATABASE), ("99.0.0", COMMAND)])
@pytest.mark.parametrize("shape", [GONE, f"{GONE}; {OTHER}"], ids=["missing", "other parameters"])
def test_a_call_that_the_database_does_not_have_is_one_line_with_what_to_upgrade(
    project: Project, shape: str, release: str, way_out: str
) -> None:
    project.sql(shape)
    project.stack.restart_api()  # it reads the functions when it starts
    try:
        with database_of(project, release=release):
            result = project.run(*SETTING)
            stopped = project.run("kill", "engage", "emergency_rollback", "--wait", "0")
    finally:
        project.sql(f"drop function if exists {SIGNATURE}; {BACK}")
        project.stack.restart_api()
    assert result.exit_code == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: crossfade.set_setting does not exist")
    assert f"The database has crossfade {release}, this command {__version__}." in line
    assert line.endswith(way_out)
    assert "Traceback" not in result.output
    assert stopped.exit_code == 0
    project.ok("kill", "release", "emergency_rollback", "--reason", "r", "--yes")
    project.ok(*SETTING)

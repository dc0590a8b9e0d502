"""Settings: types, limits, audit."""

from __future__ import annotations

import re

import pytest

from tests.sql.conftest import MIGRATIONS, ROOT
from tests.sql.control import Connection, call, cases, one, refused


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def test_a_number_stays_a_number(db: Connection) -> None:
    answer = call(db, "set_setting", "kill_wait_ms", "250", "test")
    assert answer["setting"]["value"] == 250
    assert one(db, "select crossfade_private.setting_number('kill_wait_ms')") == 250


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("r3_strict", "true", True),
        ("rollout_steps", "[1, 10, 100]", [1, 10, 100]),
        ("rule_modes", '{"R5": "warn"}', {"R5": "warn"}),
        ("shared_cause", "suppress", "suppress"),
    ],
)
def test_other_types_are_read_from_text(
    db: Connection, name: str, value: str, kept: object
) -> None:
    assert call(db, "set_setting", name, value, "test")["setting"]["value"] == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kill_wait_ms", "soon"),
        ("kill_wait_ms", "[1]"),
        ("kill_wait_ms", ""),
        ("r3_strict", "1"),
        ("rollout_steps", "{}"),
        ("rollout_steps", "[1,"),
    ],
)
def test_a_value_of_another_type_is_refused(db: Connection, name: str, value: str) -> None:
    with refused("CF012", 400) as refusal:
        call(db, "set_setting", name, value, "test")
    assert (refusal.detail["setting"], refusal.detail["value"]) == (name, value)


@pytest.mark.parametrize("value", ["-1", "10001"])
def test_a_number_outside_its_limits_is_refused(db: Connection, value: str) -> None:
    with refused("CF012", 400) as refusal:
        call(db, "set_setting", "kill_wait_ms", value, "test")
    assert (refusal.detail["minimum"], refusal.detail["maximum"]) == (0, 10000)


def test_the_limits_themselves_are_allowed(db: Connection) -> None:
    for value in ("0", "10000"):
        call(db, "set_setting", "kill_wait_ms", value, "test")


def test_an_unknown_setting_is_refused(db: Connection) -> None:
    with refused("CF015", 404):
        call(db, "set_setting", "nothing", "1", "test")


def test_a_setting_without_a_reason_is_refused(db: Connection) -> None:
    with refused("CF007", 400):
        call(db, "set_setting", "kill_wait_ms", "1", "")


def test_a_changed_setting_raises_the_version_and_is_audited(db: Connection) -> None:
    version = call(db, "flags_version")
    assert call(db, "set_setting", "kill_wait_ms", "1", "why")["flags_version"] == version + 1
    row = db.execute("select action, object, reason from crossfade.audit").fetchall()
    assert row == [("setting.update", "kill_wait_ms", "why")]


def test_applying_the_migration_again_keeps_what_an_operator_chose(db: Connection) -> None:
    call(db, "set_setting", "kill_wait_ms", "77", "test")
    version = call(db, "flags_version")
    for path in MIGRATIONS:
        db.execute(path.read_text())
    assert one(db, "select crossfade_private.setting_number('kill_wait_ms')") == 77
    assert call(db, "flags_version") == version


def test_every_setting_is_seeded_once() -> None:
    text = (ROOT / "sql/schema/tables/settings.sql").read_text(encoding="utf-8")
    seeded = re.findall(r"^  \('([a-z0-9_]+)'", text, re.MULTILINE)
    assert len(seeded) > 40
    assert sorted(set(seeded)) == sorted(seeded)


def test_settings_that_other_languages_rely_on_exist(db: Connection) -> None:
    wanted = {case.values[0]["name"]: case.values[0]["expect"] for case in cases("contract")}
    names = {name for (name,) in db.execute("select name from crossfade.settings")}
    assert set(wanted["settings"]) <= names


def test_every_setting_a_function_reads_exists(db: Connection) -> None:
    missing = one(
        db,
        r"""
        select array_agg(distinct m[1])
        from pg_proc p
        cross join lateral regexp_matches(
          p.prosrc, 'crossfade_private\.setting(?:_number|_text)?\(''([a-z0-9_]+)''\)', 'g') m
        where p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
          and not exists (select from crossfade.settings s where s.name = m[1])
        """,
    )
    assert missing is None

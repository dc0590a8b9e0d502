"""Flags as a file: what is written is read back, and the difference is exactly what differs."""

import json
import tomllib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.output import to_json
from crossfade.cli.session import Session
from crossfade.core.contract import Stage
from crossfade.core.errors import InvalidValueError
from crossfade.flags.change_sets import parse_time
from crossfade.flags.flags_file import (
    Change,
    compare,
    document_of,
    parse_document,
    to_plain,
    to_toml,
)
from crossfade.flags.model import Cohort, Flag, FlagState, KillSwitch, PairRouting
from crossfade.flags.stale import stale_flags
from crossfade.people.model import AuditEntry
from crossfade.testing import NOW, FakeGateway

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAMES = TEXT.filter(bool)
IDS = st.lists(TEXT, max_size=3).map(tuple)
PERCENTAGES = st.integers(0, 100_000).map(lambda n: Decimal(n) / 1000)


@st.composite
def states(draw: st.DrawFn) -> FlagState:
    flags = {
        name: Flag(
            name,
            enabled=draw(st.booleans()),
            percentage=draw(st.none() | PERCENTAGES),
            default_value=draw(st.booleans()),
            cohort_key=draw(NAMES),
            description=draw(TEXT),
            allow_user_ids=draw(IDS),
            killed_by=draw(IDS),
        )
        for name in draw(st.lists(NAMES, max_size=3, unique=True))
    }
    switches = tuple(
        KillSwitch(name, draw(st.booleans()), draw(st.booleans()), pair=draw(st.none() | TEXT),
                   description=draw(TEXT))
        for name in draw(st.lists(NAMES, max_size=2, unique=True))
    )  # fmt: skip
    pairs = {
        name: PairRouting(name, Stage.LIVE, Cohort(draw(PERCENTAGES), draw(TEXT), draw(IDS)))
        for name in draw(st.lists(NAMES, max_size=2, unique=True))
    }
    return FlagState(1, flags, switches, pairs)


@settings(max_examples=60, deadline=None)
@given(states())
def test_what_is_exported_is_no_difference_in_either_format(state: FlagState) -> None:
    document = document_of(state)
    for text in (to_toml(document, about="about\nme"), to_json(to_plain(document))):
        assert compare(parse_document(text, source="f"), state, prune=True) == ()


@settings(max_examples=60, deadline=None)
@given(states(), states())
def test_applying_the_difference_leaves_none(now: FlagState, wanted: FlagState) -> None:
    fake = FakeGateway()
    fake.flags, fake.version = dict(now.flags), 1
    fake.kill_switches = {switch.name: switch for switch in now.kill_switches}
    document = replace(document_of(wanted), cohorts={})
    changes = compare(document, fake.read_flags(), prune=True)
    fake.apply_changes(changes, reason="t", expected_version=None)
    assert compare(document, fake.read_flags(), prune=True) == ()


def test_the_file_is_toml_that_people_can_edit() -> None:
    text = to_toml(document_of(project().read_flags()), about="x")
    found = tomllib.loads(text)
    assert found["flags"]["enable_caching"]["percentage"] == 25
    assert found["flags"]["use_advanced_messages"]["percentage"] == "none"
    assert "engaged" not in found["kill_switches"]["disable_v2_messages"]


def test_what_a_file_leaves_out_stays() -> None:
    state = project().read_flags()
    document = parse_document("[flags.enable_caching]\npercentage = 50\n", source="f")
    assert compare(document, state) == (
        Change("flag", "enable_caching", "change", {"percentage": (Decimal(25), Decimal(50))}),
    )
    pruned = {change.name for change in compare(document, state, prune=True)[1:]}
    assert pruned == {"use_advanced_messages", "disable_v2_messages", "emergency_rollback"}


def test_new_switches_come_first_and_deletions_last() -> None:
    text = """
    [flags.new]
    killed_by = ["stop_new"]
    [kill_switches.stop_new]
    [cohorts.notes]
    percentage = 1
    """
    changes = compare(parse_document(text, source="f"), project().read_flags(), prune=True)
    order = [(change.action, change.kind) for change in changes]
    assert order[:3] == [("create", "kill_switch"), ("create", "flag"), ("change", "cohort")]
    assert {action for action, _ in order[3:]} == {"delete"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[flag.x]", '"flag"'),
        ("[flags.x]\nenabld = true", "enabld"),
        ("[flags.x]\npercentage = 33.3333", "33.3333"),
        ("[flags.x]\npercentage = true", "percentage"),
        ("[flags.x]\npercentage = nan", "NaN"),
        ("[flags.x]\nallow_user_ids = [5]", "allow_user_ids"),
        ("[flags.x]\nenabled = 2020-01-01", "enabled"),
        ("[kill_switches.x]\nengaged = true", "engaged"),
        ("[cohorts.nobody]\npercentage = 5", "nobody"),
        ("flags = 5", "flags"),
        ('{"flags": {"x": []}}', "flags.x"),
        ('{"flags": ', "neither"),
        ("= 1", "neither"),
    ],
)
def test_a_wrong_file_is_named_where_it_is_wrong(text: str, named: str) -> None:
    with pytest.raises(InvalidValueError, match=named):
        compare(parse_document(text, source="f"), project().read_flags())


# The commands ------------------------------------------------------------------------------------


def run(fake: FakeGateway, *args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, list(args), obj=Session(opened=fake), input=stdin)


def test_diff_is_1_when_different_and_import_makes_it_0(tmp_path: Path) -> None:
    fake, file = project(), tmp_path / "flags.toml"
    assert run(fake, "flags", "export", str(file)).exit_code == 0
    assert run(fake, "flags", "diff", str(file)).exit_code == 0
    file.write_text(file.read_text().replace("percentage = 25", "percentage = 30"))
    differs = run(fake, "flags", "diff", str(file))
    assert differs.exit_code == 1
    assert "~ flag enable_caching.percentage: 25 -> 30" in differs.stdout
    refused = run(fake, "flags", "import", str(file), "--reason", "t")
    assert refused.exit_code == 2
    assert "enable_caching.percentage: 25 -> 30" in refused.stderr  # the plan comes first
    assert "apply_changes" not in fake.calls
    done = run(fake, "flags", "import", str(file), "--reason", "t", "--yes")
    assert done.exit_code == 0, done.output
    assert fake.flags["enable_caching"].percentage == 30
    again = run(fake, "flags", "import", str(file), "--reason", "t", "--yes")
    assert "nothing to do" in again.stderr


def test_a_file_can_come_from_stdin() -> None:
    result = run(project(), "flags", "diff", "-", stdin="[flags.enable_caching]\nenabled = true\n")
    assert result.exit_code == 0, result.output


def test_an_import_is_for_the_version_that_was_compared() -> None:
    fake = project()
    seen = fake.version
    text = "[flags.enable_caching]\nenabled = false\n"
    run(fake, "flags", "import", "-", "--reason", "t", "--yes", stdin=text)
    assert fake.given[fake.calls.index("apply_changes")][2] == seen


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    result = run(project(), "flags", "export", str(tmp_path / "no" / "flags.toml"))
    assert (result.exit_code, "Cannot write" in result.stderr) == (2, True)


def test_history_shows_what_moved() -> None:
    fake = project()
    row = {"name": "enable_caching", "percentage": 5, "updated_by": "a", "allow_user_ids": []}
    fake.audit = [
        AuditEntry(2, NOW, "ada", "flag.update", "enable_caching", "more", 7, json.dumps(row),
                   json.dumps({**row, "percentage": 25, "updated_by": "b"})),
        AuditEntry(1, NOW, "ada", "flag.insert", "enable_caching", "new", 6, "", json.dumps(row)),
    ]  # fmt: skip
    shown = run(fake, "flags", "history", "enable_caching").stdout
    assert "percentage: 5 -> 25" in shown
    assert "created" in shown
    assert "updated_by" not in shown
    assert run(fake, "flags", "history", "no_such").exit_code == 1


def test_a_schedule_is_printed_stored_and_taken_back() -> None:
    fake = project()
    done = run(fake, "flags", "schedule", "enable_caching", "--at", "+2h", "--percentage", "50",
               "--reason", "t", "--yes")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "enable_caching.percentage: 25 -> 50" in done.stderr
    assert "pending" in run(fake, "flags", "schedules").stdout
    run(fake, "flags", "unschedule", "1", "--reason", "t", "--yes")
    assert fake.schedules[1].state == "cancelled"
    assert run(fake, "flags", "schedule", "enable_caching", "--at", "+2h",
               "--reason", "t").exit_code == 2  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+90s", NOW + timedelta(seconds=90)),
        ("+1d", NOW + timedelta(days=1)),
        ("2026-12-01T08:00:00+02:00", NOW.replace(month=12, day=1, hour=6)),
        ("2026-12-01T06:00Z", NOW.replace(month=12, day=1, hour=6)),
    ],
)
def test_times(text: str, expected: object) -> None:
    assert parse_time(text, now=NOW) == expected


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-12-01T08:00", "+5", "-5m", "08:00"])
def test_a_time_without_a_zone_or_a_meaning_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_time(text, now=NOW)


# Stale flags -------------------------------------------------------------------------------------


def stale(*flags: Flag, stage: Stage = Stage.COMPLETE, gate: str | None = None) -> list[str]:
    pairs = {"notes": PairRouting("notes", stage, None, gate)}
    state = FlagState(1, {flag.name: flag for flag in flags}, (), pairs)
    return [item.name for item in stale_flags(state, now=NOW, unchanged_days=30)]


def flag(name: str = "f", *, days: float = 0, **changes: object) -> Flag:
    base = Flag(name, enabled=True, percentage=Decimal(100), updated_at=NOW - timedelta(days=days))
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_flag_is_stale_when_everybody_gets_the_same_and_it_is_settled() -> None:
    assert stale(flag()) == ["f"]
    assert stale(flag(), stage=Stage.LIVE) == []
    assert stale(flag(days=30), stage=Stage.LIVE) == ["f"]
    assert stale(flag(days=29.9), stage=Stage.LIVE) == []
    assert stale(flag(), gate="f") == ["f"]
    assert stale(flag(days=99), gate="f", stage=Stage.LIVE) == []
    assert stale(flag(days=99, enabled=False, percentage=Decimal(50))) == ["f"]


def test_a_flag_that_somebody_needs_is_not_stale() -> None:
    assert stale(flag(days=99, percentage=Decimal("99.9"))) == []
    assert stale(flag(days=99, percentage=Decimal("0.5"))) == []
    assert stale(flag(days=99, deny_user_ids=("u",))) == []
    assert stale(flag(days=99), flag("g", prerequisites=("f",), percentage=Decimal(5))) == []

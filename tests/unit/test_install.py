"""Installing into a project: fresh timestamps, nothing twice, the owner's edits stay."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossfade.errors import ConfigError
from crossfade.install import MANIFEST, InstallPlan, apply_install, plan_install

NOW = datetime(2026, 12, 1, 8, 0, 0, tzinfo=UTC)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """What we bring: two migrations, two files of edge code, one function that is not shared."""
    root = tmp_path / "ours"
    for name, text in {
        "migrations/20200101000001_crossfade_schema.sql": "-- one",
        "migrations/20200101000002_crossfade_flags.sql": "-- two",
        "functions/_shared/crossfade/bucket.ts": "// bucket",
        "functions/_shared/crossfade/deep/flags.ts": "// flags",
        "functions/chat/index.ts": "// not shared",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    project = tmp_path / "theirs"
    (project / "supabase").mkdir(parents=True)
    return project


def plan(ours: Path, theirs: Path) -> InstallPlan:
    return plan_install(
        theirs, migrations=ours / "migrations", functions=ours / "functions", now=NOW
    )


def migrations(theirs: Path) -> list[str]:
    return sorted(path.name for path in (theirs / "supabase/migrations").glob("*"))


def test_files_are_copied_in_order_with_fresh_timestamps(ours: Path, theirs: Path) -> None:
    apply_install(plan(ours, theirs))
    assert migrations(theirs) == [
        "20261201080000_crossfade_schema.sql",
        "20261201080001_crossfade_flags.sql",
    ]
    shared = theirs / "supabase/functions/_shared/crossfade"
    assert (shared / "deep/flags.ts").read_text() == "// flags"
    assert not (theirs / "supabase/functions/chat").exists()


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("20270101235959_mine.sql", "20270102000000_crossfade_schema.sql"),
        ("99999999999990_odd.sql", "99999999999991_crossfade_schema.sql"),
        ("20100101000000_old.sql", "20261201080000_crossfade_schema.sql"),
    ],
)
def test_timestamps_are_later_than_the_projects_last(
    ours: Path, theirs: Path, last: str, first: str
) -> None:
    folder = theirs / "supabase/migrations"
    folder.mkdir()
    (folder / last).write_text("-- mine")
    apply_install(plan(ours, theirs))
    assert first in migrations(theirs)
    assert (folder / last).read_text() == "-- mine"


def test_planning_writes_nothing(ours: Path, theirs: Path) -> None:
    assert len(plan(ours, theirs).copies) == 4
    assert list((theirs / "supabase").iterdir()) == []


def test_a_second_run_has_nothing_to_do(ours: Path, theirs: Path) -> None:
    apply_install(plan(ours, theirs))
    assert plan(ours, theirs).copies == ()


def test_a_changed_migration_comes_again_and_the_applied_one_stays(
    ours: Path, theirs: Path
) -> None:
    apply_install(plan(ours, theirs))
    (ours / "migrations/20200101000002_crossfade_flags.sql").write_text("-- two, better")
    apply_install(plan(ours, theirs))
    assert migrations(theirs) == [
        "20261201080000_crossfade_schema.sql",
        "20261201080001_crossfade_flags.sql",
        "20261201080002_crossfade_flags.sql",
    ]
    assert plan(ours, theirs).copies == ()


def test_edge_code_is_updated_unless_its_owner_edited_it(ours: Path, theirs: Path) -> None:
    apply_install(plan(ours, theirs))
    (ours / "functions/_shared/crossfade/bucket.ts").write_text("// bucket 2")
    (ours / "functions/_shared/crossfade/deep/flags.ts").write_text("// flags 2")
    edited = theirs / "supabase/functions/_shared/crossfade/bucket.ts"
    edited.write_text("// mine")
    again = plan(ours, theirs)
    apply_install(again)
    assert again.kept == ("supabase/functions/_shared/crossfade/bucket.ts",)
    assert edited.read_text() == "// mine"
    flags = theirs / "supabase/functions/_shared/crossfade/deep/flags.ts"
    assert flags.read_text() == "// flags 2"


def test_an_interrupted_run_is_done_again(ours: Path, theirs: Path) -> None:
    apply_install(plan(ours, theirs))
    (theirs / MANIFEST).unlink()
    assert [copy.key for copy in plan(ours, theirs).copies] == [
        "migrations/crossfade_schema.sql",
        "migrations/crossfade_flags.sql",
    ]


@pytest.mark.parametrize(
    ("toml", "mentions"),
    [
        ('[api]\nschemas = ["public", "crossfade"]', False),
        ('[api]\nschemas = ["public"]', True),
        ("", True),
    ],
)
def test_exposing_the_schema_is_left_to_a_person(
    ours: Path, theirs: Path, toml: str, mentions: bool
) -> None:
    (theirs / "supabase/config.toml").write_text(toml)
    todo = " ".join(plan(ours, theirs).todo)
    assert ("expose the schema" in todo) is mentions
    assert (theirs / "supabase/config.toml").read_text() == toml


def test_a_folder_that_is_no_project_is_refused(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder supabase"):
        plan(ours, tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}'])
def test_a_broken_manifest_is_named(ours: Path, theirs: Path, text: str) -> None:
    (theirs / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="is not what crossfade wrote"):
        plan(ours, theirs)


def test_a_broken_config_is_named(ours: Path, theirs: Path) -> None:
    (theirs / "supabase/config.toml").write_text("[api")
    with pytest.raises(ConfigError, match="not valid TOML"):
        plan(ours, theirs)

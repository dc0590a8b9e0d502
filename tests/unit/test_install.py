"""Installing into a project: fresh timestamps, nothing twice, the owner's edits stay."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossfade.core.errors import ConfigError
from crossfade.project.folder import RECORD
from crossfade.project.install import InstallPlan, apply_install, differences, plan_install

NOW = datetime(2026, 12, 1, 8, 0, 2, tzinfo=UTC)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """What we bring: one migration a release, two files of edge code, one that is not shared."""
    root = tmp_path / "ours"
    for name, text in {
        "migrations/20200101000001_crossfade_0.9.1.sql": "-- an older release",
        "migrations/20200101000002_crossfade_0.10.0.sql": "-- one",
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


def plan(ours: Path, theirs: Path, *, restore: bool = False, version: str = "1.0.0") -> InstallPlan:
    return plan_install(
        theirs,
        migrations=ours / "migrations",
        functions=ours / "functions",
        now=NOW,
        restore=restore,
        version=version,
    )


def apply(plan: InstallPlan, *, edit_config: bool = False) -> None:
    apply_install(plan, version="1.0.0", edit_config=edit_config)


def migrations(theirs: Path) -> list[str]:
    return sorted(path.name for path in (theirs / "supabase/migrations").glob("*"))


def test_the_newest_release_is_copied_with_a_fresh_timestamp(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    assert migrations(theirs) == ["20261201080002_crossfade_0.10.0.sql"]
    shared = theirs / "supabase/functions/_shared/crossfade"
    assert (shared / "deep/flags.ts").read_text() == "// flags"
    assert not (theirs / "supabase/functions/chat").exists()


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("20270101235959_mine.sql", "20270102000000_crossfade_0.10.0.sql"),
        ("99999999999990_odd.sql", "99999999999991_crossfade_0.10.0.sql"),
        ("20100101000000_old.sql", "20261201080002_crossfade_0.10.0.sql"),
    ],
)
def test_timestamps_are_later_than_the_projects_last(
    ours: Path, theirs: Path, last: str, first: str
) -> None:
    folder = theirs / "supabase/migrations"
    folder.mkdir()
    (folder / last).write_text("-- mine")
    apply(plan(ours, theirs))
    assert first in migrations(theirs)
    assert (folder / last).read_text() == "-- mine"


def test_planning_writes_nothing(ours: Path, theirs: Path) -> None:
    assert len(plan(ours, theirs).copies) == 3
    assert list((theirs / "supabase").iterdir()) == []


def test_a_second_run_has_nothing_to_do(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    assert plan(ours, theirs).copies == ()


def test_a_newer_release_comes_behind_and_the_older_one_stays(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    (theirs / "supabase/migrations/20270101000000_mine.sql").write_text("-- mine")
    (ours / "migrations/20200101000004_crossfade_0.11.0.sql").write_text("-- two")
    apply(plan(ours, theirs))
    assert migrations(theirs) == [
        "20261201080002_crossfade_0.10.0.sql",
        "20270101000000_mine.sql",
        "20270101000001_crossfade_0.11.0.sql",
    ]
    again = plan(ours, theirs)
    assert (again.copies, again.edited, again.removed) == ((), (), ())
    assert [name for name in again.known if name.endswith(".sql")] == [
        "migrations/crossfade_0.10.0.sql",
        "migrations/crossfade_0.11.0.sql",
    ]


def test_a_migration_that_changed_before_its_release_comes_again(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    (ours / "migrations/20200101000002_crossfade_0.10.0.sql").write_text("-- one, better")
    apply(plan(ours, theirs))
    assert migrations(theirs) == [
        "20261201080002_crossfade_0.10.0.sql",
        "20261201080003_crossfade_0.10.0.sql",
    ]
    assert plan(ours, theirs).copies == ()


@pytest.mark.parametrize(
    "name",
    [
        "20261101000000_my_crossfade_0.10.0.sql",
        "20261101000000_crossfade_0.10.0_notes.sql",
        "20261101000000_crossfade_flags.sql",
    ],
)
def test_a_name_that_is_only_like_ours_is_its_owners(ours: Path, theirs: Path, name: str) -> None:
    (theirs / "supabase/migrations").mkdir()
    (theirs / "supabase/migrations" / name).write_text("-- mine")
    (ours / "migrations" / name).write_text("-- a draft beside ours")
    apply(plan(ours, theirs))
    assert migrations(theirs) == [name, "20261201080002_crossfade_0.10.0.sql"]
    assert plan(ours, theirs).copies == ()


def test_an_edited_migration_is_kept_and_named(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    edited = theirs / "supabase/migrations/20261201080002_crossfade_0.10.0.sql"
    edited.write_text("-- one\n-- mine")
    again = plan(ours, theirs)
    assert (again.copies, again.edited) == ((), (f"supabase/migrations/{edited.name}",))
    assert not again.is_current
    shown = differences(again, migrations=ours / "migrations", functions=ours / "functions")
    assert "+-- mine" in shown
    (theirs / RECORD).unlink()
    assert plan(ours, theirs).edited == again.edited, "without a record it is known by its name"
    assert "migrations/crossfade_0.10.0.sql" in {
        copy.key for copy in plan(ours, theirs, restore=True).copies
    }


def test_a_removed_file_stays_away_until_it_is_wanted(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    gone = (
        "supabase/migrations/20261201080002_crossfade_0.10.0.sql",
        "supabase/functions/_shared/crossfade/bucket.ts",
    )
    for name in gone:
        (theirs / name).unlink()
    again = plan(ours, theirs)
    assert (again.copies, again.removed, again.is_current) == ((), gone, False)
    apply(plan(ours, theirs, restore=True))
    assert plan(ours, theirs).removed == ()


def test_a_renamed_migration_is_known_by_its_content(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    folder = theirs / "supabase/migrations"
    (folder / "20261201080002_crossfade_0.10.0.sql").rename(folder / "20261130000000_tools.sql")
    again = plan(ours, theirs)
    assert (again.copies, again.removed) == ((), ())


def test_edge_code_is_updated_unless_its_owner_edited_it(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    (ours / "functions/_shared/crossfade/bucket.ts").write_text("// bucket 2")
    (ours / "functions/_shared/crossfade/deep/flags.ts").write_text("// flags 2")
    edited = theirs / "supabase/functions/_shared/crossfade/bucket.ts"
    edited.write_text("// mine")
    again = plan(ours, theirs)
    apply(again)
    assert again.edited == ("supabase/functions/_shared/crossfade/bucket.ts",)
    assert edited.read_text() == "// mine"
    flags = theirs / "supabase/functions/_shared/crossfade/deep/flags.ts"
    assert flags.read_text() == "// flags 2"


def test_an_interrupted_run_finds_what_it_wrote(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    (theirs / RECORD).unlink()
    bucket = theirs / "supabase/functions/_shared/crossfade/bucket.ts"
    bucket.unlink()
    assert [copy.key for copy in plan(ours, theirs).copies] == [
        "functions/_shared/crossfade/bucket.ts"
    ]
    apply(plan(ours, theirs))
    assert plan(ours, theirs).copies == ()


def test_after_an_uninstallation_everything_comes_again(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    (theirs / RECORD).unlink()
    folder = theirs / "supabase/migrations"
    (folder / "20270101000000_my_crossfade_uninstall.sql").write_text("-- not crossfade's")
    assert plan(ours, theirs).copies == ()
    (folder / "20270102000000_crossfade_uninstall.sql").write_text("drop schema crossfade;")
    assert [copy.target for copy in plan(ours, theirs).copies] == [
        "supabase/migrations/20270102000001_crossfade_0.10.0.sql"
    ]


def test_a_package_without_its_migration_is_named(ours: Path, theirs: Path) -> None:
    for path in (ours / "migrations").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="has no migration of crossfade"):
        plan(ours, theirs)


def test_a_project_of_a_newer_version_is_left_alone(ours: Path, theirs: Path) -> None:
    apply(plan(ours, theirs))
    assert plan(ours, theirs, version="1.0.1").before == "1.0.0"
    with pytest.raises(ConfigError, match=r"crossfade 1\.0\.0 installed") as refusal:
        plan(ours, theirs, version="0.9.10")
    assert refusal.value.hint == "Run: pip install 'crossfade>=1.0.0'"


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
    todo = " ".join(plan(ours, theirs).todo())
    assert ("under [api]: schemas" in todo) is mentions
    apply(plan(ours, theirs))
    assert (theirs / "supabase/config.toml").read_text() == toml


def test_a_folder_that_is_no_project_is_refused(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder supabase"):
        plan(ours, tmp_path)


CONFIG = """\
# my project
project_id = "mine"

[api] # the Data API
schemas = [
  "public", # ours
  "graphql_public",
]
max_rows = 500
"""


def test_config_is_edited_only_when_told_and_keeps_its_comments(ours: Path, theirs: Path) -> None:
    config = theirs / "supabase/config.toml"
    config.write_text(CONFIG)
    apply(plan(ours, theirs))
    assert config.read_text() == CONFIG
    apply(plan(ours, theirs), edit_config=True)
    added = [line for line in config.read_text().splitlines() if line not in CONFIG.splitlines()]
    assert [line.strip() for line in added] == ['"crossfade",']
    assert [line for line in CONFIG.splitlines() if line not in config.read_text()] == []
    assert plan(ours, theirs).is_current
    before = config.read_text()
    apply(plan(ours, theirs), edit_config=True)
    assert config.read_text() == before


def test_a_config_without_schemas_keeps_the_default_ones(ours: Path, theirs: Path) -> None:
    (theirs / "supabase/config.toml").write_text("")
    apply(plan(ours, theirs), edit_config=True)
    assert plan(ours, theirs).project.exposed_schemas() == ["public", "graphql_public", "crossfade"]


@pytest.mark.parametrize("toml", ["[api]\nschemas = 3", "api = 3"])
def test_a_config_that_says_something_else_is_named(ours: Path, theirs: Path, toml: str) -> None:
    (theirs / "supabase/config.toml").write_text(toml)
    with pytest.raises(ConfigError, match="api"):
        plan(ours, theirs)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}', json.dumps({"files": {"a": "b"}})])
def test_a_broken_record_is_named(ours: Path, theirs: Path, text: str) -> None:
    (theirs / RECORD).write_text(text)
    with pytest.raises(ConfigError, match="is not what crossfade wrote"):
        plan(ours, theirs)


def test_a_broken_config_is_named(ours: Path, theirs: Path) -> None:
    (theirs / "supabase/config.toml").write_text("[api")
    with pytest.raises(ConfigError, match="not valid TOML"):
        plan(ours, theirs)

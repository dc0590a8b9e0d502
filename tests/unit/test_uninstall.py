"""Uninstalling from a project: what we put there goes, what its owner wrote or edited stays."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossfade.core.errors import ConfigError
from crossfade.project import resources
from crossfade.project.folder import RECORD
from crossfade.project.install import apply_install, plan_install
from crossfade.project.uninstall import UninstallPlan, apply_uninstall, plan_uninstall

NOW = datetime(2026, 12, 1, 8, 0, 0, tzinfo=UTC)
SQL = resources.resource("sql/uninstall.sql")
OWN = {
    "supabase/migrations/20250101000000_mine.sql": "create table public.mine ();\n",
    "supabase/functions/mine/index.ts": "// mine",
    "supabase/config.toml": '[api]\nschemas = ["public", "crossfade"] # ours\n',
}


def contents(project: Path) -> dict[str, str]:
    return {
        path.relative_to(project).as_posix(): path.read_text()
        for path in sorted(project.rglob("*"))
        if path.is_file()
    }


def install(project: Path) -> None:
    plan = plan_install(
        project,
        migrations=resources.migrations_dir(),
        functions=resources.functions_dir(),
        now=NOW,
    )
    apply_install(plan)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    for name, text in OWN.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    install(tmp_path)
    return tmp_path


def plan(theirs: Path, *, pushed: bool = True) -> UninstallPlan:
    return plan_uninstall(theirs, sql=SQL, pushed=pushed, now=NOW)


def test_planning_removes_nothing(theirs: Path) -> None:
    before = contents(theirs)
    assert plan(theirs).removals
    assert contents(theirs) == before


def test_a_project_that_no_database_has_seen_is_as_it_was(theirs: Path) -> None:
    apply_uninstall(plan(theirs, pushed=False), edit_config=True)
    left = contents(theirs)
    assert left.pop("supabase/config.toml") == '[api]\nschemas = ["public"] # ours\n'
    assert left == {name: text for name, text in OWN.items() if "config" not in name}
    assert not (theirs / "supabase/functions/_shared").exists()


def test_applied_migrations_stay_and_one_more_undoes_them(theirs: Path) -> None:
    before = contents(theirs)
    apply_uninstall(plan(theirs))
    left = contents(theirs)
    (new,) = set(left) - set(before)
    assert new > max(name for name in before if "/migrations/" in name)
    assert "drop schema if exists crossfade cascade;" in left[new]
    assert not {"begin;", "commit;"} & set(left[new].splitlines())
    gone = set(before) - set(left)
    assert gone == {name for name in before if "_shared/crossfade" in name} | {RECORD}
    assert left["supabase/config.toml"] == OWN["supabase/config.toml"]


def test_what_its_owner_edited_stays(theirs: Path) -> None:
    edited = theirs / "supabase/functions/_shared/crossfade/flags/bucket.ts"
    edited.write_text("// mine")
    found = plan(theirs)
    apply_uninstall(found)
    assert found.kept == ("supabase/functions/_shared/crossfade/flags/bucket.ts",)
    assert edited.read_text() == "// mine"


def test_installing_again_afterwards_copies_everything_again(theirs: Path) -> None:
    apply_uninstall(plan(theirs))
    names = set(contents(theirs))
    install(theirs)
    new = [name for name in contents(theirs) if name not in names and name.endswith(".sql")]
    assert len(new) == len(list(resources.migrations_dir().glob("*.sql")))


def test_a_project_without_crossfade_is_named(tmp_path: Path) -> None:
    (tmp_path / "supabase").mkdir()
    with pytest.raises(ConfigError, match="is not installed in"):
        plan(tmp_path)

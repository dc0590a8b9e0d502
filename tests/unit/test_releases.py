"""Released migrations are immutable: manifests, what breaks them, and the ones of this tree."""

import subprocess
import sys
from pathlib import Path

import pytest

from crossfade.core.errors import ConfigError
from crossfade.core.versions import version_key
from crossfade.project import resources
from crossfade.project.releases import Release, broken_promises, current, freeze, releases

ROOT = Path(__file__).resolve().parents[2]
FIRST = Release("0.1.0", {"1_crossfade_a.sql": "aa", "2_crossfade_b.sql": "bb"}, {})


def test_no_released_migration_of_this_tree_has_changed() -> None:
    now = current(resources.migrations_dir(), resources.functions_dir())
    assert now.migrations
    assert now.functions
    assert broken_promises(now, releases()) == []


@pytest.mark.parametrize(
    ("migrations", "problem"),
    [
        ({"1_crossfade_a.sql": "aa", "2_crossfade_b.sql": "bb"}, None),
        ({"1_crossfade_a.sql": "aa", "2_crossfade_b.sql": "bb", "3_crossfade_c.sql": "cc"}, None),
        ({"1_crossfade_a.sql": "a!", "2_crossfade_b.sql": "bb"}, "1_crossfade_a.sql .* changed"),
        ({"1_crossfade_a.sql": "aa"}, "2_crossfade_b.sql .* gone"),
        (
            {"1_crossfade_a.sql": "aa", "15_crossfade_c.sql": "c", "2_crossfade_b.sql": "bb"},
            "15_crossfade_c.sql is new but sorts before",
        ),
    ],
)
def test_a_manifest_is_only_frozen_when_older_ones_hold(
    tmp_path: Path, migrations: dict[str, str], problem: str | None
) -> None:
    freeze(tmp_path, now=FIRST)
    second = Release("0.2.0", migrations, {})
    if problem is None:
        freeze(tmp_path, now=second)
        assert releases(tmp_path) == (FIRST, second)
    else:
        with pytest.raises(ConfigError, match=problem):
            freeze(tmp_path, now=second)
        assert releases(tmp_path) == (FIRST,)


def test_the_same_version_is_not_frozen_with_other_files(tmp_path: Path) -> None:
    freeze(tmp_path, now=FIRST)
    freeze(tmp_path, now=FIRST)
    with pytest.raises(ConfigError, match="has changed"):
        freeze(tmp_path, now=Release("0.1.0", {**FIRST.migrations, "1_crossfade_a.sql": "x"}, {}))


def test_versions_are_ordered_as_numbers() -> None:
    assert version_key("0.10.0") > version_key("0.9.1") > version_key("0.9")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is ready for the tag v0.1.0."""
    manifests = tmp_path / "control/crossfade/_releases"
    manifests.mkdir(parents=True)
    freeze(manifests, now=FIRST)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 - a day\n\nNew.\n\n## 0.0.1\n")
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/release_notes").write_text((ROOT / ".ci/release_notes").read_text())
    return tmp_path


def release_notes(checkout: Path, tag: str = "v0.1.0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/release_notes", tag]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_a_release_prints_its_part_of_the_changelog(checkout: Path) -> None:
    assert release_notes(checkout).stdout == "New.\n"


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("pyproject.toml", 'version = "0.2.0"', "is not the version"),
        ("CHANGELOG.md", "## Unreleased\n\nNew.\n", "no section for 0.1.0"),
        ("control/crossfade/_releases/0.1.0.json", None, "make freeze"),
    ],
)
def test_a_release_that_does_not_agree_with_itself_is_stopped(
    checkout: Path, file: str, text: str | None, says: str
) -> None:
    if text is None:
        (checkout / file).unlink()
    else:
        (checkout / file).write_text(text)
    done = release_notes(checkout)
    assert done.returncode == 1
    assert says in done.stderr

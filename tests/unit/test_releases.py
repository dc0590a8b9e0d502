"""Released migrations are immutable: manifests, what breaks them, and the ones of this tree."""

from pathlib import Path

import pytest

from crossfade import resources
from crossfade.errors import ConfigError
from crossfade.releases import Release, broken_promises, current, freeze, releases, version_key

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

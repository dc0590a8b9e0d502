"""The schema in rooms: one order, no circle of calls, and the migration that is made of it."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from crossfade import __version__
from crossfade.core.errors import ConfigError
from crossfade.project import resources
from crossfade.project.releases import MIGRATION, releases
from crossfade.project.schema import files, migration_name, migration_text, signatures

SCHEMA = resources.schema_dir()

# The text of a comment may name functions; a string may be the text of a generated function.
_SILENT = re.compile(r"^comment on .*?';$|--[^\n]*", re.DOTALL | re.MULTILINE)
_MADE = re.compile(r"^create or replace function (\S+?)\(", re.MULTILINE)
_NAMED = re.compile(r"\b(crossfade(?:_private)?\.\w+)\s*\(")


def calls_of_later_files(parts: Mapping[str, str]) -> list[str]:
    """Return the calls that go down; ``parts`` maps files to their text, in their order."""
    texts = {name: _SILENT.sub("", text) for name, text in parts.items()}
    place = {name: number for number, name in enumerate(texts)}
    home = {function: name for name, text in texts.items() for function in _MADE.findall(text)}
    return [
        f"{name} calls {function} of {home[function]}"
        for name, text in texts.items()
        for function in sorted(set(_NAMED.findall(text)) & set(home))
        if place[home[function]] > place[name]
    ]


def parts() -> dict[str, str]:
    return {name: (SCHEMA / name).read_text(encoding="utf-8") for name in files(SCHEMA)}


def function(name: str, body: str) -> str:
    head = f"create or replace function {name}(a text)\nreturns text\nlanguage sql\n"
    return f"{head}as $$\n{body}\n$$;\n"


def test_a_file_calls_only_itself_and_files_above_it() -> None:
    assert calls_of_later_files(parts()) == []


def test_every_function_is_made_by_one_file() -> None:
    made = [name for text in parts().values() for name in set(_MADE.findall(text))]
    assert len(made) > 200
    assert sorted(made) == sorted(set(made))


def test_the_files_of_a_room_stand_together_and_tables_hold_no_function() -> None:
    rooms = [name.split("/")[0] for name in files(SCHEMA)]
    runs = [room for before, room in zip(["", *rooms], rooms, strict=False) if room != before]
    assert len(runs) == len(set(runs))
    texts = parts()
    assert [n for n in texts if n.startswith("tables/") and _MADE.search(texts[n])] == []
    tables = re.compile(r"^create table ", re.MULTILINE)
    assert [n for n in texts if tables.search(texts[n]) and not n.startswith("tables/")] == []


@pytest.mark.parametrize(
    "call",
    [
        "select crossfade.second(a)",
        "select crossfade.second (a)",
        "select format('execute function crossfade.second(%L)', a)",
    ],
)
def test_a_circle_is_seen_also_in_generated_text(call: str) -> None:
    circle = {
        "one/first.sql": function("crossfade.first", call),
        "two/second.sql": function("crossfade.second", "select crossfade.first(a)"),
    }
    assert calls_of_later_files(circle) == [
        "one/first.sql calls crossfade.second of two/second.sql"
    ]


def test_a_trigger_calls_its_function_and_a_comment_calls_nothing() -> None:
    trigger = "create or replace trigger t after insert on crossfade.t\nexecute function {}();\n"
    later = {"b.sql": function("crossfade.b", "select a")}
    assert calls_of_later_files({"a.sql": trigger.format("crossfade.b"), **later})
    comments = "-- as crossfade.b(a)\ncomment on table crossfade.t is\n  'Not crossfade.b(a).';\n"
    assert calls_of_later_files({"a.sql": comments, **later}) == []


def test_the_committed_migration_is_what_the_schema_gives() -> None:
    built = (resources.migrations_dir() / migration_name()).read_text(encoding="utf-8")
    assert built == migration_text(SCHEMA), "run: make migration"


def test_a_release_is_one_migration_and_says_which_release_it_is() -> None:
    shipped = {name for release in releases() for name in release.migrations}
    found = [path.name for path in resources.migrations_dir().iterdir()]
    assert sorted(found) == sorted(shipped | {migration_name()})
    versions = [match[2] for name in found if (match := MIGRATION.fullmatch(name))]
    assert sorted(versions) == sorted({r.version for r in releases()} | {__version__})
    text = (SCHEMA / "pairs" / "triggers.sql").read_text(encoding="utf-8")
    assert f"select '{__version__}'::text;" in text, "crossfade_private.generator()"


def schema(folder: Path, order: str, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(text)
    (folder / "order.txt").write_text(order)
    return folder


def test_files_are_joined_in_their_order_and_the_functions_listed(tmp_path: Path) -> None:
    folder = schema(
        tmp_path,
        "# order\n\nz.sql\na.sql\n",
        z=function("crossfade.z", "select a"),
        a="do $$\n-- {functions}\n$$;\n",
    )
    text = migration_text(folder, "1.2.3")
    assert text.startswith("-- crossfade 1.2.3.")
    assert text.index("crossfade.z(a text)") < text.index("-- a.sql")
    assert text.endswith("do $$\n-- crossfade.z(text)\n$$;\n")


@pytest.mark.parametrize("order", ["a.sql\n", "a.sql\nb.sql\na.sql\n", "a.sql\nb.sql\nc.sql\n"])
def test_an_order_that_is_not_that_of_the_folder_is_refused(tmp_path: Path, order: str) -> None:
    folder = schema(tmp_path, order, a="", b="")
    with pytest.raises(ConfigError, match=r"each file once: [abc]\.sql$"):
        files(folder)


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        ("", ""),
        ("a text", "text"),
        (
            "\n  a text,\n  b timestamp with time zone default now()\n",
            "text, timestamp with time zone",
        ),
        ('a numeric(6, 3), b jsonb default \'{"a": "),"}\'', "numeric(6, 3), jsonb"),
        ("a crossfade.pairs, b text[] default array['x', 'y']", "crossfade.pairs, text[]"),
    ],
)
def test_the_types_of_a_function_are_read(arguments: str, types: str) -> None:
    sql = f"create or replace function crossfade.f({arguments})\nreturns text\n"
    assert list(signatures(sql)) == [f"crossfade.f({types})"]

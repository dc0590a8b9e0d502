"""What the tracked files promise: documents, names of commands, and what is not there."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from crossfade.cli import app
from crossfade.health.rules import RULES
from crossfade.project.schema import files

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "control/README.md",
    "control/CLIENTS.md",
    "control/COPIES.md",
    "control/HANDOVER.md",
    "control/KEYS.md",
    "control/PARTITIONS.md",
    "tests/README.md",
    "tests/examples/orders/README.md",
    "tests/examples/chat/README.md",
    "sql/CONVERTERS.md",
    ".github/ARCHITECTURE.md",
    ".github/CONTRIBUTING.md",
)
LARGEST_FILE_BYTES = 300_000
# Made of the files of sql/schema, which are small: compared by tests/unit/test_schema.py and
# tests/sql/test_generated.py.
BUILT = re.compile(
    r"supabase/migrations/\d{14}_crossfade_\d+\.\d+\.\d+\.sql"
    r"|tests/golden/mirror/\w+/(?!pair\.sql)\w+\.sql"
)
DATA_SUFFIXES = {".csv", ".db", ".gz", ".jsonl", ".npy", ".parquet", ".pickle", ".sqlite", ".zip"}
SQL_FOLDERS = {
    "supabase/migrations",
    "sql",
    *(f"sql/schema/{Path(name).parent}".removesuffix("/.") for name in files(ROOT / "sql/schema")),
    "sql/bench",
    "sql/checks",
    "sql/pairs",
    "control/crossfade/demo/sql",
}
# Spelled in two parts: the text itself must not stand in the tree, and this file is in the tree.
REGISTRY_HOSTS = ("registry." + "npmjs", "npmjs" + ".org", "pypi" + ".org", "python" + "hosted")
MACHINE_PATH = re.compile(r"(?:^|[^.\w])/(?:work|farm|root|Users|home/\w+)/")
KEYWORD = re.compile(
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|JOIN|GROUP|ORDER|RETURNING|RETURNS|CREATE|ALTER"
    r"|DROP|GRANT|REVOKE|BEGIN|END|DECLARE|IF|THEN|ELSE|ELSIF|LOOP|RAISE|PERFORM|EXECUTE|RETURN"
    r"|LANGUAGE|AND|OR|NOT|NULL|IN|IS|AS|ON|SET|VALUES|USING|WITH|CASE|WHEN|EXISTS|EXCEPTION)\b"
)


@cache
def tracked() -> list[str]:
    """Return the paths of all tracked files that exist."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@cache
def text_of(name: str) -> str:
    """Return a file's text; what is no UTF-8 counts as empty."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def migrations() -> list[str]:
    """Return the file names of the migrations in the order they are applied."""
    return sorted(path.name for path in (ROOT / "supabase" / "migrations").iterdir())


def sql_files() -> list[str]:
    """Return the tracked SQL files that people write."""
    return [name for name in tracked() if name.endswith(".sql") and not BUILT.fullmatch(name)]


# Documents


def anchors(markdown: str) -> set[str]:
    """Return the anchors that a page's headings get."""
    headings = re.findall(r"^#+ +(.+)$", markdown, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_documents_resolve(document: str) -> None:
    page = ROOT / document
    broken = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text())):
            broken.append(target)
    assert broken == []


def code_lines(markdown: str) -> list[str]:
    """Return the lines of shell blocks and the inline code of a page."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    without_blocks = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return lines + re.findall(r"`([^`\n]+)`", without_blocks)


@cache
def leaf_commands() -> dict[tuple[str, ...], set[str]]:
    """Return every command that does something, by its words, with its options."""
    found: dict[tuple[str, ...], set[str]] = {}
    groups: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while groups:
        path, command = groups.pop()
        named = children(command).items()
        groups += [((*path, name), child) for name, child in named if not child.hidden]
        if not named:
            found[path] = options_of(path, command)
    return found


def options_of(path: tuple[str, ...], command: Any) -> set[str]:
    if command.context_settings.get("ignore_unknown_options"):  # it passes them on
        result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0, f"{path}: {result.output}"
        return set(re.findall(r"--[a-z-]+", result.output))
    names = (name for item in command.params for name in (*item.opts, *item.secondary_opts))
    return {"--help", *names}


def children(command: Any) -> dict[str, Any]:
    """Return the commands of a group; none for a command."""
    return getattr(command, "commands", {})


def wrong_command(line: str) -> str | None:
    """Return what is wrong with a `crossfade ...` line, or None."""
    words = line.split("#")[0].split()[1:]
    if not words or words[0].startswith("-"):
        return None
    for length in (1, 2):
        known = leaf_commands().get(tuple(words[:length]))
        if known is not None:
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            unknown = [name for name in options if name not in known]
            return f"{line}: no option {unknown}" if unknown else None
    return f"{line}: no such command"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_crossfade_commands_in_documents_exist(document: str) -> None:
    lines = [line.strip().removeprefix("$ ") for line in code_lines(text_of(document))]
    checked = (wrong_command(line) for line in lines if line.startswith("crossfade "))
    assert [problem for problem in checked if problem] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_in_documents_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    lines = [line.strip() for line in code_lines(text_of(document))]
    named = {line.split()[1] for line in lines if re.match(r"make [a-z]", line)}
    assert named - targets == set()


def test_runbook_names_every_command() -> None:
    runbook = text_of("control/README.md")
    names = [" ".join(("crossfade", *words)) for words in leaf_commands()]
    assert [name for name in names if f"`{name}" not in runbook] == []


def test_runbook_says_what_to_do_for_every_rule() -> None:
    rows = re.findall(r"^\| `(R\w+)` \|", text_of("control/README.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted([*RULES, "R3"])


def test_runbook_explains_every_error_code() -> None:
    cases = json.loads(text_of("tests/vectors/contract.json"))["cases"]
    (contract,) = [case["expect"] for case in cases if case["name"] == "error_codes"]
    raised = re.findall(r"'(CF(?:\d{3}|_[A-Z]+))'", "".join(map(text_of, sql_files())))
    rows = re.findall(r"^\| `(CF\w+)` \|", text_of("control/README.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted({*contract, *raised})


# What is not in the tree


def test_sql_lives_in_its_folders_only() -> None:
    strays = [
        name
        for name in sql_files()
        if Path(name).parent.as_posix() not in SQL_FOLDERS
        and name != "control/crossfade/local/bootstrap.sql"
        and not name.startswith("tests/")
    ]
    assert strays == []


def test_no_function_or_table_is_defined_in_two_sql_files() -> None:
    pattern = re.compile(
        r"^create (?:or replace )?(function|table|view|trigger|type)(?: if not exists)? ([\w.]+)",
        re.MULTILINE,
    )
    homes: dict[tuple[str, str], set[str]] = {}
    for name in sql_files():
        for kind, thing in pattern.findall(text_of(name)):
            homes.setdefault((kind, thing), set()).add(name)
    assert {key: found for key, found in homes.items() if len(found) > 1 and "." in key[1]} == {}


def test_no_data_and_no_large_file_is_tracked() -> None:
    suspicious = [
        name
        for name in tracked()
        if Path(name).suffix in DATA_SUFFIXES
        or ((ROOT / name).stat().st_size > LARGEST_FILE_BYTES and not BUILT.fullmatch(name))
        or re.search(r"(^|/)(build|dist|node_modules|_bundled|vendor)/", name)
    ]
    assert suspicious == []


def test_no_registry_host_and_no_path_of_a_machine_is_tracked() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name in tracked()
        for number, line in enumerate(text_of(name).splitlines(), 1)
        if any(host in line for host in REGISTRY_HOSTS) or MACHINE_PATH.search(line)
    ]
    assert found == []


def test_lock_files_hold_no_download_address() -> None:
    locks = [name for name in tracked() if re.search(r"(\.lock|lock\.json|lock\.yaml)$", name)]
    assert [name for name in locks if "://" in text_of(name)] == []


# Migrations and SQL text


def test_migration_names_have_fourteen_digits_and_a_version() -> None:
    assert [n for n in migrations() if not BUILT.fullmatch(f"supabase/migrations/{n}")] == []


def test_migration_versions_are_strictly_increasing() -> None:
    versions = [name[:14] for name in migrations()]
    assert versions
    assert len(set(versions)) == len(versions)


def test_migrations_leave_transactions_to_who_applies_them() -> None:
    pattern = re.compile(r"^(begin|commit|rollback|vacuum)\b|\bconcurrently\b", re.IGNORECASE)
    found = [
        f"{name}: {statement.split(maxsplit=1)[0]}"
        for name in migrations()
        for statement in outside_bodies(text_of(f"supabase/migrations/{name}")).split(";")
        if pattern.search(statement.strip())
    ]
    assert found == []


TOKENS = re.compile(
    r"--[^\n]*"  # comment
    r"|/\*.*?\*/"
    r"|'(?:[^']|'')*'"  # string
    r"|(?P<tag>\$\w*\$)(?P<body>.*?)(?P=tag)",
    re.DOTALL,
)


def outside_bodies(sql: str) -> str:
    """Return the statements without comments, strings and function bodies."""
    return TOKENS.sub("''", sql)


def bodies(sql: str) -> list[str]:
    """Return the dollar-quoted texts of a file without their comments and strings."""
    found = [match["body"] for match in TOKENS.finditer(sql) if match["body"]]
    return [TOKENS.sub("''", body) for body in found]


def test_sql_keywords_in_bodies_are_lower_case() -> None:
    found = [
        f"{name}: {keyword}"
        for name in sql_files()
        for body in bodies(text_of(name))
        for keyword in KEYWORD.findall(body)
    ]
    assert found == []


def test_sql_is_indented_by_two_spaces_and_at_most_100_wide() -> None:
    # A line that is one string, such as the text of a comment, may be longer.
    one_string = re.compile(r"^(comment on .* is )? *'([^']|'')*'[;,)]*$")
    found = [
        f"{name}:{number}"
        for name in sql_files()
        for number, line in enumerate(text_of(name).splitlines(), 1)
        if "\t" in line or line != line.rstrip() or (len(line) > 100 and not one_string.match(line))
    ]
    assert found == []


# Imports of edge functions


def test_edge_functions_import_files_npm_and_node_only() -> None:
    mapped = json.loads(text_of("supabase/functions/chat/deno.json")).get("imports", {})
    assert [target for target in mapped.values() if not target.startswith("npm:")] == []
    found = []
    for name in tracked():
        if name.startswith("supabase/functions/") and name.endswith(".ts"):
            imports = re.findall(
                r"""(?:\bfrom\s+|\bimport\s+|\bimport\()["']([^"']+)["']""", text_of(name)
            )
            found += [
                f"{name}: {module}"
                for module in imports
                if not re.match(r"npm:|node:|\.{1,2}/.*\.(ts|json)$", module)
                and module not in mapped
            ]
    assert found == []


def test_shared_edge_code_imports_no_function() -> None:
    found = [
        name
        for name in tracked()
        if name.startswith("supabase/functions/_shared/")
        and re.search(r"""["'](\.\./)+chat/""", text_of(name))
    ]
    assert found == []

"""Rules of the code base that a reader relies on."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.builders import ROOT

import crossfade

PACKAGE = ROOT / "control" / "crossfade"
CLIENTS = {"supabase", "supabase_auth", "supabase_functions", "postgrest", "realtime", "storage3"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules() -> list[Path]:
    skipped = {"local", "demo"}  # clients of the embedded stack, with rules of their own
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if not skipped & set(path.relative_to(PACKAGE).parts[:1])
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_gateway_imports_the_client(path: Path) -> None:
    if path.parent.name == "gateway":
        return
    assert not {name.split(".")[0] for name in imported(path)} & CLIENTS


PURE = (
    "flags/bucketing",
    "flags/evaluation",
    "flags/model",
    "health/error_rules",
    "health/judgement",
    "health/latency_rules",
    "health/model",
    "health/presence_rules",
    "health/resource_rules",
    "health/rules",
    "health/verdicts",
    "health/wilson",
    "pairs/model",
    "rollback/model",
    "rollback/planning",
    "rollouts/advance",
    "rollouts/plan",
    "runs/model",
    "runs/progress",
    "views/metrics",
    "views/overview",
    "views/signals",
)


@pytest.mark.parametrize("name", PURE)
def test_the_pure_core_does_no_io_and_reads_no_clock(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    banned = {"httpx", "os", "time", "socket", "random", "subprocess", "crossfade.gateway"}
    assert not set(imported(path)) & banned
    assert "datetime.now" not in path.read_text("utf-8")


def test_a_class_name_stands_once_in_the_package() -> None:
    names = [
        node.name
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_shared_edge_code_imports_no_function() -> None:
    shared = ROOT / "supabase" / "functions" / "_shared"
    for path in shared.rglob("*.ts"):
        for target in re.findall(r"""from\s+["']([^"']+)["']""", path.read_text("utf-8")):
            if target.startswith("."):
                assert shared in (path.parent / target).resolve().parents, f"{path}: {target}"


def test_public_names_are_sorted_and_there() -> None:
    assert list(crossfade.__all__) == sorted(crossfade.__all__)
    for name in crossfade.__all__:
        assert getattr(crossfade, name) is not None
    listed = {name for names in crossfade._HOMES.values() for name in names}
    assert listed | {"__version__"} == set(crossfade.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = crossfade.nothing

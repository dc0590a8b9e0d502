"""`crossfade flags bundle`: the file that an edge function starts with."""

import json
from pathlib import Path

import pytest
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.flags.bundle import bundle
from crossfade.flags.model import FlagState
from crossfade.gateway.rows import parse
from crossfade.testing import FakeGateway


def run(fake: FakeGateway, *folders: Path) -> Result:
    command = ["flags", "bundle", *map(str, folders)]
    return CliRunner().invoke(app, command, obj=Session(opened=fake))


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "chat", tmp_path / "ofrep"]
    for folder in found:
        folder.mkdir()
        (folder / "index.ts").touch()
    return found


def test_the_file_is_written_beside_each_function_and_is_the_same_again(
    folders: list[Path],
) -> None:
    fake = project()
    for _ in range(2):
        result = run(fake, *folders)
        assert result.exit_code == 0, result.output
    texts = {(folder / "flags.json").read_text("utf-8") for folder in folders}
    assert len(texts) == 1
    assert [path.name for path in sorted(folders[0].iterdir())] == ["flags.json", "index.ts"]


def test_what_decides_is_there_and_reads_back(folders: list[Path]) -> None:
    fake = project()
    run(fake, folders[0])
    document = json.loads((folders[0] / "flags.json").read_text("utf-8"))
    rows = {kind: {row["name"]: row for row in document[kind]} for kind in ("flags", "pairs")}
    again = parse(FlagState, {**document, **rows})
    assert bundle(again) == bundle(fake.read_flags())
    assert {"percentage", "killed_by", "allow_user_ids"} <= set(document["flags"][0])
    assert {"stage", "gate_flag", "cohort"} <= set(document["pairs"][0])
    assert "description" not in document["flags"][0]


def test_a_folder_that_is_no_function_is_refused_before_anything_is_written(
    folders: list[Path], tmp_path: Path
) -> None:
    result = run(project(), folders[0], tmp_path)
    assert result.exit_code == 2
    assert "index.ts" in result.output
    assert not (folders[0] / "flags.json").exists()

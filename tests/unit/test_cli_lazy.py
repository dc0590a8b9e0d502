"""Commands of the embedded stack: the folder may stand before or after their name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossfade.cli import app


def folder_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["data_dir"])


def test_the_global_folder_is_the_one_of_down(tmp_path: Path) -> None:
    mine = str((tmp_path / "mine").resolve())
    assert folder_of("--data-dir", mine, "down") == mine
    assert folder_of("down", "--data-dir", mine) == mine


def test_the_nearer_folder_wins(tmp_path: Path) -> None:
    far, near = (str((tmp_path / name).resolve()) for name in ("far", "near"))
    assert folder_of("--data-dir", far, "down", "--data-dir", near) == near
    assert folder_of("--data-dir", far, "down", f"--data-dir={near}") == near


def test_the_environment_names_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = str((tmp_path / "mine").resolve())
    monkeypatch.setenv("CROSSFADE_DATA_DIR", mine)
    assert folder_of("down") == mine

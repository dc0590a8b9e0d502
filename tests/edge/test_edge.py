"""Runs the tests of the edge functions in Deno, so that one command runs everything."""

import os
import subprocess
import tomllib
from pathlib import Path

from crossfade.local.deno_runtime import deno_bin

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "supabase" / "functions" / "chat" / "deno.json"


def test_edge_functions_pass_their_own_tests() -> None:
    """One Deno process for all of them: its start and type check cost more than the tests."""
    result = subprocess.run(
        [
            str(deno_bin()),
            "test",
            "--config",
            str(CONFIG),
            "--frozen",
            f"--allow-read={ROOT / 'tests'}",
            "--allow-env=CROSSFADE_SEED,CROSSFADE_CASES",  # repeats or lengthens a generated run
            str(ROOT / "tests" / "edge"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=600,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert " passed" in result.stdout, result.stdout


def test_the_version_that_is_built_is_written_down() -> None:
    """A release without golden files could change its output unnoticed: see write_golden.ts."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (ROOT / "tests" / "golden" / version).is_dir()

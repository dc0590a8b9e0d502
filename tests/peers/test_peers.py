"""Runs the tests that need other projects' npm packages: their SDKs and their published cases."""

import os
import subprocess
from pathlib import Path

from crossfade.local.deno_runtime import deno_bin

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "peers"


def test_peers_agree_with_us() -> None:
    """One Deno process for all of them: its start and type check cost more than the tests."""
    result = subprocess.run(
        [
            str(deno_bin()),
            "test",
            "--config",
            str(FOLDER / "deno.json"),
            "--frozen",
            "--allow-read",  # packages read their own files
            "--allow-env",
            str(FOLDER),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        timeout=280,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert " passed" in result.stdout, result.stdout

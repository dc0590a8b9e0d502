"""Runs the tests of the edge functions in Deno, so that one command runs everything."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from .deno_generations import GENERATIONS, deno_of, environment_of

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ROOT / "supabase" / "functions"
CONFIG = FUNCTIONS / "chat" / "deno.json"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_edge_functions_pass_their_own_tests(generation: str) -> None:
    """One Deno process for all of them: its start and type check cost more than the tests."""
    # Types are checked by the newest alone: what is deployed has none any more.
    checks = [] if generation == "newest" else ["--no-check"]
    result = subprocess.run(
        [
            str(deno_of(generation)),
            *("test", *checks),
            "--config",
            str(CONFIG),
            "--frozen",
            f"--allow-read={ROOT / 'tests'},{FUNCTIONS}",
            "--allow-net=127.0.0.1",  # keys that an Auth server publishes
            "--allow-env=CROSSFADE_SEED,CROSSFADE_CASES",  # repeats or lengthens a generated run
            str(ROOT / "tests" / "edge"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment_of(generation),
        timeout=900,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    assert " passed" in result.stdout, result.stdout


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    ("name", "method", "status"),
    [("chat", "OPTIONS", 200), ("orders", "OPTIONS", 200), ("ofrep", "GET", 404)],
)
def test_every_function_starts(generation: str, name: str, method: str, status: int) -> None:
    """With its own configuration and lock file, and no flags to be had."""
    folder = FUNCTIONS / name
    lock = ["--frozen"] if (folder / "deno.lock").exists() else ["--no-lock"]
    keys = {"SUPABASE_PUBLISHABLE_KEYS": "publishable", "SUPABASE_SECRET_KEYS": "secret"}
    result = subprocess.run(
        [
            str(deno_of(generation)),
            *("run", "--quiet", "--no-check", "--no-prompt", *lock, "-A"),
            *("--config", str(folder / "deno.json"), str(ROOT / "tests" / "edge" / "starts.ts")),
            *(str(folder / "index.ts"), name, method),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={
            **environment_of(generation),
            **{name: json.dumps({"default": f"sb_{kind}_x"}) for name, kind in keys.items()},
            "SUPABASE_URL": "http://127.0.0.1:9",
        },
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == str(status)


def test_lock_files_load_in_the_hosted_generation() -> None:
    for path in FUNCTIONS.rglob("deno.lock"):
        assert json.loads(path.read_text())["version"] == "4", path


def test_the_version_that_is_built_is_written_down() -> None:
    """A release without golden files could change its output unnoticed: see write_golden.ts."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (ROOT / "tests" / "golden" / version).is_dir()

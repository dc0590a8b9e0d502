"""Flags as a file against the real stack: the same bytes of meaning both ways."""

import json
import uuid
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.local import LocalStack


@pytest.fixture
def flag(stack: LocalStack) -> str:
    """A flag of one's own in the stack that other tests use too."""
    name = f"filed_{uuid.uuid4().hex[:8]}"
    run(stack, "flags", "set", name, "--create", "--percentage", "12.5", "--reason", "t", "--yes")
    return name


def run(stack: LocalStack, *args: str, stdin: str = "") -> Result:
    env = {"SUPABASE_URL": stack.info.api_url, "SUPABASE_SECRET_KEY": stack.info.secret_key}
    return CliRunner().invoke(app, list(args), env=env, input=stdin)


def test_the_bootstrap_snapshot_is_what_the_edge_reads(stack: LocalStack) -> None:
    written = run(stack, "flags", "export", "--bootstrap")
    read = httpx.post(
        f"{stack.info.api_url}/rest/v1/rpc/read_flags",
        headers={"apikey": stack.info.secret_key, "content-profile": "crossfade"},
        json={},
    ).json()
    found = json.loads(written.stdout)
    assert found["settings"] == read["settings"]
    for part in ("flags", "kill_switches", "pairs"):
        rows = {row["name"]: row for row in read[part]}
        assert {row["name"] for row in found[part]} == set(rows)
        for row in found[part]:
            for field in set(row) - {"updated_at", "engaged_at", "cohort"}:
                assert row[field] == rows[row["name"]][field], (row["name"], field)
            if row.get("cohort"):
                cohort = rows[row["name"]]["cohort"]
                assert row["cohort"] == {name: cohort[name] for name in row["cohort"]}


def test_an_export_imports_without_a_difference_and_an_edit_is_one(
    stack: LocalStack, flag: str, tmp_path: Path
) -> None:
    file = tmp_path / "flags.toml"
    assert run(stack, "flags", "export", str(file)).exit_code == 0
    assert run(stack, "flags", "diff", str(file)).exit_code == 0
    file.write_text(
        f'[flags.{flag}]\npercentage = 33.333\ndeny_user_ids = ["ü", "a\\nb"]\n'
        f'[flags.{flag}_two]\nenabled = true\npercentage = "none"\n'
        f'[kill_switches.stop_{flag}]\ndescription = "d"\n'
    )
    assert run(stack, "flags", "diff", str(file)).exit_code == 1
    done = run(stack, "flags", "import", str(file), "--reason", "t", "--yes")
    assert done.exit_code == 0, done.output
    assert run(stack, "flags", "diff", str(file)).exit_code == 0
    history = run(stack, "flags", "history", flag).stdout
    assert "percentage: 12.5 -> 33.333" in history


def test_a_bad_file_changes_nothing(stack: LocalStack, flag: str) -> None:
    text = f'[flags.{flag}]\npercentage = 50\n[flags."two words"]\nenabled = true\n'
    refused = run(stack, "flags", "import", "-", "--reason", "t", "--yes", stdin=text)
    assert refused.exit_code == 1
    found = json.loads(run(stack, "flags", "show", flag, "--json").stdout)
    assert found["percentage"] == 12.5


def test_a_monitor_applies_what_is_due(stack: LocalStack, flag: str) -> None:
    done = run(
        stack, "flags", "schedule", flag, "--at", "+0s", "--enable", "--reason", "t", "--yes"
    )
    assert done.exit_code == 0, done.output
    watched = run(stack, "monitor", "run", "--once", "--no-follow-plans")
    assert watched.exit_code in (0, 3), watched.output
    assert json.loads(run(stack, "flags", "show", flag, "--json").stdout)["enabled"]
    states = {
        s["id"]: s["state"] for s in json.loads(run(stack, "flags", "schedules", "--json").stdout)
    }
    assert states[max(states)] == "applied"

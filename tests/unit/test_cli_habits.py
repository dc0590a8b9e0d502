"""What every command has in common: JSON or --yes, Ctrl-C, repeats, completion."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.testing import FakeGateway

ROOT: Any = typer.main.get_command(app)
# Commands of the embedded stack, whose options come from modules that are imported when run.
ELSEWHERE = {"up", "down", "demo", "dashboard"}
# Neither a read nor a change that could be regretted, each with why.
ON_THEIR_OWN = {
    "kill engage": "an emergency stop never asks",
    "login": "changes nothing in the project",
    "logout": "changes nothing in the project",
    "flags export": "writes a file that is named",
    "flags bundle": "writes files that are named",
    "metrics": "prints the format of Prometheus",
    "verify resume": "only goes on with what was begun",
    "install": "copies files; has a dry run of its own",
    "upgrade": "copies files; has a dry run of its own",
    "uninstall": "asks in its own words",
}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif name not in ELSEWHERE:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(ROOT))


def options(command: Any) -> set[str]:
    return {text for item in command.params for text in getattr(item, "opts", ())}


def run(fake: FakeGateway, *args: str) -> Result:
    return CliRunner().invoke(app, list(args), obj=Session(opened=fake))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_reads_with_json_or_changes_with_yes(name: str) -> None:
    has = options(COMMANDS[name])
    assert has & {"--json", "--yes"} or name in ON_THEIR_OWN, f"{name} has {sorted(has)}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_that_asks_can_be_told_not_to_and_takes_a_reason(name: str) -> None:
    has = options(COMMANDS[name])
    # The audit wants a reason of whatever is changed by hand.
    if "--yes" in has:
        files = {"install", "upgrade", "uninstall"}  # of a folder, which has a history of its own
        assert (
            "--reason" in has
            or name in {"backfill start", "backfill run", "group backfill", "key carry"} | files
            or (name.startswith(("verify", "pair", "rollout")))
        )


def test_ctrl_c_while_a_request_is_under_way_claims_nothing() -> None:
    class Interrupting(FakeGateway):
        def engage_kill_switch(self, name: str, *, reason: str | None) -> Any:
            super().engage_kill_switch(name, reason=reason)
            raise KeyboardInterrupt

    fake = project()
    fake.__class__ = Interrupting
    result = run(fake, "kill", "engage", "disable_v2_messages")
    assert result.exit_code == 130
    assert "Nothing was changed" not in result.output
    assert "crossfade audit list" in result.output


REPEATED = [
    ("kill", "engage", "disable_v2_messages"),
    ("flags", "set", "enable_caching", "--percentage", "50", "--reason", "t", "--yes"),
    ("cohort", "set", "notes", "--allow-user", "u", "--reason", "t", "--yes"),
    ("stage", "set", "notes", "shadow", "--reason", "t", "--yes"),
    ("operator", "add", "ada@example.com", "--reason", "t", "--yes"),
]


@pytest.mark.parametrize("command", REPEATED, ids=" ".join)
def test_a_change_can_be_repeated(command: tuple[str, ...]) -> None:
    fake = project()
    assert run(fake, *command).exit_code == 0
    state = (dict(fake.flags), dict(fake.cohorts), dict(fake.operators))
    again = run(fake, *command)
    assert again.exit_code == 0, again.output
    assert (dict(fake.flags), dict(fake.cohorts), dict(fake.operators)) == state


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    words = "crossfade kill "
    env = {
        **os.environ,
        "_CROSSFADE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "crossfade"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "engage" in done.stdout, done.stderr

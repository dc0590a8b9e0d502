"""The help: every command shows an example, every option its environment variable."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from crossfade.cli import app

ROOT: Any = typer.main.get_command(app)
# Their help comes from the modules of the embedded stack.
ELSEWHERE = {"up", "down", "demo"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif name not in ELSEWHERE:
            yield (*path, name)


COMMANDS = sorted(commands(ROOT))


def help_of(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_all_nouns_are_there() -> None:
    nouns = {path[0] for path in COMMANDS}
    assert nouns == {
        "alerts",
        "audit",
        "backfill",
        "cohort",
        "dashboard",
        "doctor",
        "events",
        "flags",
        "group",
        "handover",
        "install",
        "key",
        "kill",
        "login",
        "logout",
        "metrics",
        "monitor",
        "operator",
        "pair",
        "plan",
        "relabel",
        "repair",
        "rollback",
        "rollout",
        "settings",
        "snapshot",
        "stage",
        "status",
        "uninstall",
        "upgrade",
        "verify",
        "whoami",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_is_this_command(path: tuple[str, ...]) -> None:
    assert f"Example: crossfade {' '.join(path)}" in " ".join(help_of(path).split())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_the_environment_variable_of_every_option(path: tuple[str, ...]) -> None:
    command = ROOT
    for name in path:
        command = command.commands[name]
    options = [item for item in command.params if item.param_type_name == "option"]
    text = " ".join(help_of(path).split())
    assert text.count("env var:") == sum(item.name != "help" for item in options)


def test_the_root_names_the_variables_of_the_connection() -> None:
    text = help_of(())
    for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        assert name in text


def test_a_key_in_the_environment_is_not_shown_by_help() -> None:
    env = {"SUPABASE_SECRET_KEY": "sb_secret_shown", "SUPABASE_URL": "https://a.b"}
    assert "sb_secret_shown" not in CliRunner().invoke(app, ["--help"], env=env).output

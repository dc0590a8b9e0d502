"""Nothing that a terminal obeys leaves a command, whatever rows, users and operators say."""

import json
import logging
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest
import typer
from tests.unit.builders import project
from tests.unit.test_cli import CHANGES, READS
from typer.testing import CliRunner

from crossfade.cli import app
from crossfade.cli.output import TalkHandler
from crossfade.cli.session import Session
from crossfade.core.errors import RefusedError
from crossfade.core.escaping import escaped, escaped_lines
from crossfade.flags.flags_file import _text
from crossfade.monitor.alerts import Alert, Alerts, Severity
from crossfade.testing import FakeGateway

ODD = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029,
                        *range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # fmt: skip
HOSTILE = f"\x1b]0;owned\x07\x9b2J\u202e\r\nFORGED all is well\u2028FORGED{ODD}"
# They serve, wait for events or a browser, or start processes: they print nothing of a row.
ELSEWHERE = {"up", "down", "demo", "dashboard", "events", "login", "logout", "metrics"}
# They print SQL, which has lines of its own; what a terminal obeys is escaped in it as well.
SQL = ("handover plan", "relabel", "key carry", "pair client-policy")
ROOT: Any = typer.main.get_command(app)


class HostileGateway(FakeGateway):
    """Every text that the database answers ends in control characters and forged lines."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found) or name in {"changed", "fail", "add_pair"}:
            return found
        return lambda *given, **named: poisoned(found(*given, **named))


def poisoned(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{
                field.name: poisoned(getattr(value, field.name))
                for field in fields(value)
                # Keys by which the next call finds the row again.
                if field.init and field.name not in {"name", "pair", "url"}
            },
        )
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    # JSON text stays JSON; what may be null is there, so that it is printed.
    if isinstance(value, str) and not isinstance(value, Enum) and not value.startswith("{"):
        return value + HOSTILE
    return value


def every_command(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each command of the command line with what it has to be given."""
    for name, command in group.commands.items():
        if name in ELSEWHERE:
            continue
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
            continue
        whole = (*path, name)
        known = [one for one in (*READS, *CHANGES) if one[: len(whole)] == whole]
        yield from known or [(*whole, *needed(command))]


def needed(command: Any) -> Iterator[str]:
    for one in command.params:
        if one.required and one.param_type_name == "argument":
            yield "notes"
        elif one.required:
            yield from (one.opts[0], "notes")


def hostile() -> HostileGateway:
    fake = HostileGateway()
    for name, value in vars(project()).items():
        setattr(fake, name, value)
    fake.kill_switches["disable_v2_messages"] = replace(
        fake.kill_switches["disable_v2_messages"], engaged=True, reason="why"
    )
    fake.take_snapshot(reason="why")
    return fake


@pytest.mark.parametrize("command", sorted(set(every_command())), ids=" ".join)
def test_no_command_leaks_what_a_terminal_obeys(
    command: tuple[str, ...], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {option for one in find(command).params for option in one.opts}
    yes = ("--yes",) if "--yes" in options else ()
    for more in ((), ("--json",)) if "--json" in options else ((),):
        result = CliRunner().invoke(app, [*command, *yes, *more], obj=Session(opened=hostile()))
        for text in (result.stdout, result.stderr):
            assert not set(text.replace("\n", "")) & set(ODD)
            assert " ".join(command).startswith(SQL) or "\nFORGED" not in text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not set(path.read_text().replace("\n", "")) & set(ODD)


def find(command: tuple[str, ...]) -> Any:
    found = ROOT
    for name in command:
        if not hasattr(found, "commands"):
            break
        found = found.commands[name]
    return found


def test_the_rows_are_hostile_indeed_and_shown() -> None:
    for command in (("status",), ("kill", "list"), ("flags", "list", "--json"), ("audit", "list")):
        fake = hostile()
        result = CliRunner().invoke(app, list(command), obj=Session(opened=fake))
        assert command[0] == "audit" or "\\u001b" in result.stdout, command


def test_json_says_the_same_after_it_is_read() -> None:
    result = CliRunner().invoke(app, ["kill", "list", "--json"], obj=Session(opened=hostile()))
    assert any(HOSTILE in (row["reason"] or "") for row in json.loads(result.stdout))


def test_one_value_is_one_line_and_what_people_write_stays() -> None:
    assert escaped("a\nb\x1b\u202e") == "a\\u000ab\\u001b\\u202e"
    assert escaped_lines("a\nb\x1b") == "a\nb\\u001b"
    for text in ("Zoë", "日本語", "العربية", "👩‍👧", "a b"):
        assert escaped(text) == text


def test_files_logs_alerts_and_errors_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(_text(HOSTILE)) == HOSTILE
    sent: list[Alert] = []

    class Kept:
        def send(self, alert: Alert) -> None:
            sent.append(alert)

    Alerts([Kept()]).raise_(Alert(Severity.INFO, HOSTILE, HOSTILE, HOSTILE, {"f": HOSTILE}))
    record = logging.LogRecord("crossfade.x", logging.WARNING, "", 1, "%s", (HOSTILE,), None)
    TalkHandler().emit(record)
    logged = capsys.readouterr().err
    assert logged.count("\n") == 1
    (alert,) = sent
    texts = (_text(HOSTILE), logged[:-1], alert.key, alert.title, alert.body,
             str(alert.figures["f"]), RefusedError(HOSTILE, hint=HOSTILE).line())  # fmt: skip
    for text in texts:
        assert not set(text) & set(ODD)

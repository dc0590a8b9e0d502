"""Flags over time: files, schedules, history, and what has done its work."""

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.names import unknown
from crossfade.cli.options import AsJson, Limit, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, show, table, to_json
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode
from crossfade.core.errors import InvalidValueError
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.change_sets import parse_time
from crossfade.flags.flags_file import (
    Change,
    Document,
    compare,
    document_of,
    parse_document,
    to_plain,
    to_toml,
)
from crossfade.flags.model import FlagState
from crossfade.flags.stale import stale_flags
from crossfade.people.model import AuditEntry

Name = Annotated[str, typer.Argument(help="Name of the flag.", show_default=False)]
File = Annotated[
    Path, typer.Argument(help="TOML or JSON; - is stdin.", show_default=False, allow_dash=True)
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Also delete flags and switches the file does not have.")
]
At = Annotated[
    str, typer.Option(help="When: a time with its zone, or +30m, +2h, +1d.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``flags``."""
    app.command("history")(history)
    app.command("export")(export)
    app.command("diff")(diff)
    app.command("import")(import_)
    app.command("schedule")(schedule)
    app.command("schedules")(schedules)
    app.command("unschedule")(unschedule)
    app.command("stale")(stale)


# Files -------------------------------------------------------------------------------------------


def export(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Where to write; stdout when left out.")
    ] = None,
    bootstrap: Annotated[
        bool,
        typer.Option(
            "--bootstrap", help="The snapshot an edge function bundles as flags.json instead."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write flags, cohorts and the definitions of kill switches as TOML, or JSON.

    With --bootstrap: what an edge function starts from when it cannot reach the database.

    Example: crossfade flags export flags.toml
    """
    opened = gateway(context)
    state = opened.read_flags()
    if bootstrap:
        text = to_json(_snapshot(state)) + "\n"
    elif as_json or (file and file.suffix == ".json"):
        text = to_json(to_plain(document_of(state))) + "\n"
    else:
        text = to_toml(
            document_of(state), about=f"{opened.url}, flags version {state.flags_version}"
        )
    if file is None:
        show(text.rstrip("\n"))
        return
    _write(file, text)
    say(f"Wrote {file}")


def _snapshot(state: FlagState) -> dict[str, object]:
    """The keys of read_flags' answer, which is what the edge parses."""
    return {
        "flags_version": state.flags_version,
        "flags": [state.flags[name] for name in sorted(state.flags)],
        "kill_switches": sorted(state.kill_switches, key=lambda item: item.name),
        "pairs": [state.pairs[name] for name in sorted(state.pairs)],
        "settings": state.settings,
    }


def _write(file: Path, text: str) -> None:
    # In one step: a function that is deployed meanwhile bundles the old file or the new one.
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise InvalidValueError(f"Cannot write {file}: {error.strerror}") from None


def _read(file: Path) -> Document:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidValueError(f"Cannot read {file}: {reason}") from None
    return parse_document(text, source=str(file))


def diff(context: typer.Context, file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Say what an import of the file would change. Exit code 1 when something differs.

    Example: crossfade flags diff flags.toml
    """
    document = _read(file)
    changes = compare(document, gateway(context).read_flags(), prune=prune)
    emit(changes, as_json=as_json, render=lambda: "\n".join(_lines(changes)) or "No difference")
    if changes:
        raise typer.Exit(1)


def import_(
    context: typer.Context,
    file: File,
    prune: Prune = False,
    at: Annotated[
        str | None, typer.Option(help="Apply later: a time with its zone, or +30m, +2h, +1d.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Make the project say what the file says: prints the difference, then all or nothing.

    Refused when flags have changed meanwhile. Kill switches are defined, never engaged.

    Example: crossfade flags import flags.toml --reason "as reviewed in 4711" --yes
    """
    document = _read(file)
    due = parse_time(at, now=datetime.now(UTC)) if at else None
    opened = gateway(context)
    state = opened.read_flags()
    changes = compare(document, state, prune=prune)
    if not changes:
        say("No difference; nothing to do")
        return
    text = _needed(reason, f"import {file}")
    when = f"at {due:%Y-%m-%d %H:%M:%SZ}: " if due else ""
    confirm(
        [when + line for line in _lines(changes)], yes=yes, command=f"crossfade flags import {file}"
    )
    if due:
        done = opened.schedule_changes(changes, due_at=due, reason=text)
        say(f"Scheduled as {done.id}; a monitor applies it (crossfade monitor run or drive)")
        return
    applied = opened.apply_changes(changes, reason=text, expected_version=state.flags_version)
    say(f"{applied.applied} changes; flags version {applied.flags_version}")


def _lines(changes: tuple[Change, ...]) -> list[str]:
    lines = []
    for change in changes:
        what = f"{change.kind.replace('_', ' ')} {change.name}"
        if change.action == "delete":
            lines.append(f"- {what}")
            continue
        if change.action == "create":
            lines.append(f"+ {what}")
        lines += [
            f"{'+' if change.action == 'create' else '~'} {what}.{field}:"
            f" {cell(before)} -> {cell(after)}"
            for field, (before, after) in change.fields.items()
        ]
    return lines


# Schedules ---------------------------------------------------------------------------------------


def schedule(
    context: typer.Context,
    name: Name,
    at: At,
    percentage: Annotated[
        str | None, typer.Option(help="0 to 100, three decimals at most, or none.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Switch the whole flag.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Change a flag at a time. A monitor does it, exactly once.

    Refused at that time when it raises the flag while a pair is latched by a rollback. A file is
    scheduled with: crossfade flags import FILE --at TIME.

    Example: crossfade flags schedule enable_caching --at +2h --percentage 50 --reason "go" --yes
    """
    due = parse_time(at, now=datetime.now(UTC))
    opened = gateway(context)
    state = opened.read_flags()
    if name not in state.flags:
        raise unknown("flag", name, state.flags, ErrorCode.UNKNOWN_FLAG)
    flag = state.flags[name]
    fields: dict[str, tuple[bool | Decimal | None, bool | Decimal | None]] = {}
    if percentage is not None:
        wanted = None if percentage == "none" else parse_percentage(percentage)
        fields["percentage"] = (flag.percentage, wanted)
    if enabled is not None:
        fields["enabled"] = (flag.enabled, enabled)
    if not fields:
        raise InvalidValueError(
            "Nothing to change", hint="Give --percentage, --enable or --disable"
        )
    text = _needed(reason, f'schedule "{name}"')
    change = Change("flag", name, "change", fields)
    plan = [f"at {due:%Y-%m-%d %H:%M:%SZ}: {line}" for line in _lines((change,))]
    confirm(plan, yes=yes, command=f"crossfade flags schedule {name}")
    done = opened.schedule_changes((change,), due_at=due, reason=text)
    say(f"Scheduled as {done.id}; a monitor applies it (crossfade monitor run or drive)")


def schedules(context: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List scheduled changes and what became of them, newest first.

    Example: crossfade flags schedules
    """
    found = gateway(context).list_schedules(limit=limit)
    rows = [
        (s.id, s.state, s.due_at, s.created_by, _named(s.changes), s.outcome or None, s.reason)
        for s in found
    ]
    headers = ("ID", "STATE", "DUE", "BY", "CHANGES", "OUTCOME", "REASON")
    emit(found, as_json=as_json, render=lambda: table(headers, rows))


def _named(changes: str) -> list[str]:
    return [f"{item.get('kind')} {item.get('name')}" for item in json.loads(changes)]


def unschedule(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Its number.", show_default=False)],
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Take scheduled changes back.

    Example: crossfade flags unschedule 3 --reason "not this week" --yes
    """
    text = _needed(reason, f"take scheduled changes {number} back")
    opened = gateway(context)
    command = f"crossfade flags unschedule {number}"
    confirm([f"cancel scheduled changes {number}"], yes=yes, command=command)
    opened.cancel_changes(number, reason=text)
    say(f"Scheduled changes {number} are cancelled")


# Looking back ------------------------------------------------------------------------------------


def history(context: typer.Context, name: Name, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show who changed a flag, when, why, and from what to what; newest first.

    Example: crossfade flags history enable_caching
    """
    opened = gateway(context)
    found = tuple(
        row for row in opened.list_audit(limit=limit, name=name) if row.action.startswith("flag.")
    )
    if not found and name not in opened.read_flags().flags:
        raise unknown("flag", name, opened.read_flags().flags, ErrorCode.UNKNOWN_FLAG)
    rows = [
        (row.at, row.actor, row.flags_version, "; ".join(_moved(row)), row.reason) for row in found
    ]
    headers = ("AT", "WHO", "VERSION", "CHANGE", "REASON")
    emit(found, as_json=as_json, render=lambda: table(headers, rows))


def _moved(row: AuditEntry) -> list[str]:
    before, after = (
        json.loads(text, parse_float=Decimal) if text else None for text in (row.before, row.after)
    )
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [row.action.removeprefix("flag.").replace("insert", "created")]
    return [
        f"{field}: {_shown(before.get(field))} -> {_shown(value)}"
        for field, value in after.items()
        if value != before.get(field) and field not in {"updated_at", "updated_by"}
    ]


def _shown(value: object) -> str:
    return cell(tuple(value) if isinstance(value, list) else value)


def stale(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=0, help="Unchanged for so long counts as done.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List flags that have done their work and can leave the code. Exit code 1 when there are some.

    A flag is listed when everybody gets the same answer, nothing needs it, and it is the gate of a
    complete pair, every pair is complete, or it was left alone for --days.

    Example: crossfade flags stale
    """
    state = gateway(context).read_flags()
    found = stale_flags(state, now=datetime.now(UTC), unchanged_days=days)
    rows = [(item.name, item.always, item.changed_at, item.reasons) for item in found]
    headers = ("FLAG", "ALWAYS", "LAST CHANGE", "WHY")
    emit(found, as_json=as_json, render=lambda: table(headers, rows) if rows else "No stale flag")
    if found:
        raise typer.Exit(1)


def _needed(reason: str | None, action: str) -> str:
    if not (reason or "").strip():
        raise InvalidValueError(f"Cannot {action} without a reason", hint='Add --reason "..."')
    return str(reason)

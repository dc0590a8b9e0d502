"""Going back."""

from typing import Annotated

import typer

from crossfade.cli.names import find_pair, unknown
from crossfade.cli.options import AsJson, Limit, Reason, Yes
from crossfade.cli.output import confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode, Event, Level
from crossfade.core.errors import CrossfadeError, InvalidValueError
from crossfade.core.escaping import escaped
from crossfade.ports import Gateway
from crossfade.rollback.model import RollbackDone, RollbackEntry

app = typer.Typer(no_args_is_help=True, help="Go back in one transaction; no data is touched.")


@app.command("run")
def run(
    context: typer.Context,
    level: Annotated[
        Level,
        typer.Option(
            case_sensitive=False,
            help="FEATURE: one flag off. PARTIAL: one step down. COMPLETE: nobody on V2. EMERGENCY:"
            " COMPLETE and the emergency stop.",
            show_default=False,
        ),
    ],
    pair: Annotated[str | None, typer.Option(envvar="CROSSFADE_PAIR", help="The pair.")] = None,
    flag: Annotated[str | None, typer.Option(help="The flag, for FEATURE.")] = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would happen.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Go back. The mirror stays on, a snapshot is taken first, and data stays as it is.

    Example: crossfade rollback run --level COMPLETE --pair chat_messages --reason "slow" --yes
    """
    scope = _scope(level, pair, flag)
    if not (reason or "").strip() and not dry_run:
        raise InvalidValueError(f"Cannot roll back {scope} without a reason", hint="Add --reason")
    opened = gateway(context, older=True)
    seen = _require(opened, level, scope)
    why = reason or "dry run"
    plan = opened.rollback(level, scope, reason=why, automatic=False, dry_run=True)
    if dry_run:
        emit(
            plan,
            as_json=as_json,
            render=lambda: "\n".join(map(escaped, _lines(plan))) or "Nothing to do",
        )
        return
    confirm(_lines(plan), yes=yes, command=f"crossfade rollback run --level {level}")
    done = opened.rollback(
        level, scope, reason=why, automatic=False, dry_run=False, expected_step=seen
    )
    if plan.plan and done.rollback is None:
        say(f"{scope} was moved by somebody else meanwhile; nothing was changed")
        raise typer.Exit(1)
    _hint(opened, done)
    told = (f"{level} rollback of {scope} is done (snapshot {done.snapshot})", *done.also)
    text = escaped("; ".join(told))
    emit(done, as_json=as_json, render=lambda: text)


def _scope(level: Level, pair: str | None, flag: str | None) -> str:
    wanted, given = ("--flag", flag) if level is Level.FEATURE else ("--pair", pair)
    if not given:
        raise InvalidValueError(f"Level {level} needs {wanted}", hint=f"Add {wanted} NAME")
    if pair and flag:
        raise InvalidValueError("Give --pair or --flag, not both")
    return given


def _require(opened: Gateway, level: Level, scope: str) -> int | None:
    """The step a PARTIAL rollback is about: of two people at once, one goes one step back.

    The other levels end in the same state however often they run, and must never be refused.
    """
    if level is not Level.FEATURE:
        step = find_pair(opened, scope).step
        return step if level is Level.PARTIAL else None
    flags = opened.read_flags().flags
    if scope not in flags:
        raise unknown("flag", scope, flags, ErrorCode.UNKNOWN_FLAG)
    return None


def _lines(done: RollbackDone) -> list[str]:
    changes = (
        f"{change.action} {change.object}: {change.before or '-'} -> {change.after or '-'}"
        for change in done.plan
    )
    return [*changes, *done.also]


def _hint(opened: Gateway, done: RollbackDone) -> None:
    try:
        opened.broadcast(
            Event.ROLLBACK,
            {"flags_version": done.flags_version, "pair": done.scope, "level": done.level.value},
        )
    except CrossfadeError as error:
        # Only a hint: the rollback is committed, and edge functions also poll.
        say(f"Broadcast not sent ({error.line()}); edge functions notice when they poll")


def _row(done: RollbackEntry) -> tuple[object, ...]:
    what = (done.id, done.at, done.level, done.scope, done.touched)
    return (*what, done.automatic, done.actor, done.snapshot, done.reason)


@app.command("list")
def list_(context: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List rollbacks, newest first.

    Example: crossfade rollback list
    """
    found = gateway(context, older=True).list_rollbacks(limit=limit)
    emit(
        found,
        as_json=as_json,
        render=lambda: table(
            ("ID", "AT", "LEVEL", "SCOPE", "ALSO", "AUTOMATIC", "BY", "SNAPSHOT", "REASON"),
            map(_row, found),
        ),
    )

"""Flags."""

from decimal import Decimal
from typing import Annotated

import typer

from crossfade.cli.flags_bundle import bundle_flags
from crossfade.cli.names import unknown
from crossfade.cli.options import AsJson, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode
from crossfade.core.errors import InvalidValueError
from crossfade.flags import evaluation
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.model import Context, Evaluation, Flag, FlagState

app = typer.Typer(no_args_is_help=True, help="Named features inside backend 2.")
app.command("bundle")(bundle_flags)
Name = Annotated[str, typer.Argument(help="Name of the flag.", show_default=False)]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the flags.

    Example: crossfade flags list --json
    """
    state = gateway(context).read_flags()
    found = tuple(state.flags[name] for name in sorted(state.flags))
    emit(found, as_json=as_json, render=lambda: _table(state, found))


def _table(state: FlagState, found: tuple[Flag, ...]) -> str:
    engaged = {switch.name for switch in state.engaged()}
    return table(
        ("NAME", "ENABLED", "PERCENT", "DEFAULT", "ALLOWED", "DENIED", "KILLED BY"),
        (
            (
                flag.name,
                flag.enabled,
                flag.percentage,
                "on" if flag.default_value else "off",
                len(flag.allow_user_ids) + len(flag.allow_agent_ids),
                len(flag.deny_user_ids) + len(flag.deny_agent_ids),
                [f"{name} (engaged)" if name in engaged else name for name in flag.killed_by]
                or "-",
            )
            for flag in found
        ),
    )


@app.command("show")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show one flag.

    Example: crossfade flags show enable_memory_system
    """
    flag = _find(gateway(context).read_flags(), name)
    columns = [(field, getattr(flag, field)) for field in Flag.__dataclass_fields__]
    emit(flag, as_json=as_json, render=lambda: table(("COLUMN", "VALUE"), columns))


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    percentage: Annotated[
        str | None, typer.Option(help="0 to 100, three decimals at most, or none.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Switch the whole flag.")
    ] = None,
    default: Annotated[
        bool | None, typer.Option("--default-on/--default-off", help="Value without a rule.")
    ] = None,
    allow_user: Annotated[list[str] | None, typer.Option(help="User for whom it is on.")] = None,
    allow_agent: Annotated[list[str] | None, typer.Option(help="Agent for whom it is on.")] = None,
    deny_user: Annotated[list[str] | None, typer.Option(help="User for whom it is off.")] = None,
    deny_agent: Annotated[list[str] | None, typer.Option(help="Agent for whom it is off.")] = None,
    clear_lists: Annotated[bool, typer.Option(help="Empty the lists first.")] = False,
    create: Annotated[bool, typer.Option(help="Make a new flag of that name.")] = False,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Change a flag. Lists grow by what is given; --clear-lists empties them first.

    Example: crossfade flags set enable_caching --enable --percentage 25 --reason "try it" --yes
    """
    limit = _percentage(percentage)  # refused before anything is read or asked
    opened = gateway(context)
    state = opened.read_flags()
    flag = Flag(name, default_value=False) if create else _find(state, name)
    wanted: dict[str, bool | Decimal | tuple[str, ...] | None] = {}
    if percentage is not None:
        wanted["percentage"] = limit
    if enabled is not None:
        wanted["enabled"] = enabled
    if default is not None:
        wanted["default_value"] = default
    given = {
        "allow_user_ids": allow_user,
        "allow_agent_ids": allow_agent,
        "deny_user_ids": deny_user,
        "deny_agent_ids": deny_agent,
    }
    for column, ids in given.items():
        kept = () if clear_lists else getattr(flag, column)
        wanted[column] = tuple(dict.fromkeys([*kept, *(ids or [])]))
    changes = {key: value for key, value in wanted.items() if value != getattr(flag, key)}
    if not changes and not create:
        say(f"{name} is already like that; nothing to do")
        return
    reason = _needed(reason, name)
    plan = [
        f"{name}.{key}: {cell(getattr(flag, key))} -> {cell(value)}"
        for key, value in changes.items()
    ]
    confirm([f"create flag {name}"] * create + plan, yes=yes, command=f"crossfade flags set {name}")
    opened.set_flag(name, {**changes, "create": True} if create else changes, reason=reason)
    say(f"{name} changed")


def _needed(reason: str | None, name: str) -> str:
    if not (reason or "").strip():
        raise InvalidValueError(
            f'Cannot change "{name}" without a reason', hint='Add --reason "..."'
        )
    return str(reason)


def _percentage(text: str | None) -> Decimal | None:
    return None if text is None or text == "none" else parse_percentage(text)


@app.command("explain")
def explain(
    context: typer.Context,
    name: Name,
    user: Annotated[str, typer.Option(help="User id.")] = "",
    agent: Annotated[str, typer.Option(help="Agent id.")] = "",
    conversation: Annotated[str, typer.Option(help="Conversation id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which value somebody gets, and which rule decides.

    Example: crossfade flags explain enable_caching --user 42
    """
    state = gateway(context).read_flags()
    _find(state, name)
    answer = evaluation.evaluate(state, name, Context(user, agent, conversation))
    emit(answer, as_json=as_json, render=lambda: _explained(answer))


def _explained(answer: Evaluation) -> str:
    steps = table(
        ("RULE", "APPLIES", "WOULD BE", "BUCKET", "THRESHOLD", ""),
        (
            (
                step.rule,
                step.matched,
                "on" if step.value else "off",
                step.bucket,
                step.threshold,
                "<- decides" if step.decides else "",
            )
            for step in answer.steps
        ),
    )
    return f"{answer.flag} is {answer.variant}: {answer.reason} by {answer.rule}\n{steps}"


def _find(state: FlagState, name: str) -> Flag:
    if name in state.flags:
        return state.flags[name]
    raise unknown("flag", name, state.flags, ErrorCode.UNKNOWN_FLAG)

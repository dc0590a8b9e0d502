"""Operators: who may do what with a sign-in of their own."""

from typing import Annotated

import typer

from crossfade.cli.options import AsJson, Reason, Yes
from crossfade.cli.output import confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode, OperatorRole
from crossfade.core.errors import InvalidValueError, refusal
from crossfade.people.model import Operator
from crossfade.ports import Gateway

app = typer.Typer(no_args_is_help=True, help="People with a sign-in and a role.")
Who = Annotated[str, typer.Argument(help="Address or user id.", show_default=False)]
Role = Annotated[OperatorRole, typer.Option(help="What they may do.")]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the operators.

    Example: crossfade operator list
    """
    found = gateway(context).list_operators()
    rows = [(o.name, o.role, o.user_id, o.added_at, o.added_by) for o in found]
    headers = ("WHO", "ROLE", "USER ID", "ADDED", "BY")
    emit(found, as_json=as_json, render=lambda: table(headers, rows))


@app.command("add")
def add(
    context: typer.Context,
    who: Who,
    role: Role = OperatorRole.VIEWER,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Let a user of Supabase Auth operate. The user must exist and have a confirmed address.

    Example: crossfade operator add ada@example.com --role operator --reason "on call" --yes
    """
    text = _needed(reason, f'add "{who}"')
    opened = gateway(context)
    confirm([f"add {who} as {role}"], yes=yes, command=f"crossfade operator add {who}")
    done = opened.add_operator(who, role, reason=text)
    say(f"{done.operator.name} is {done.operator.role}{'' if done.changed else ' already'}")


@app.command("set-role")
def set_role(
    context: typer.Context,
    who: Who,
    role: Annotated[OperatorRole, typer.Argument(help="The new role.", show_default=False)],
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Change what an operator may do, from their next request on.

    Example: crossfade operator set-role ada@example.com admin --reason "leads now" --yes
    """
    text = _needed(reason, f'change the role of "{who}"')
    opened = gateway(context)
    found = _find(opened, who)
    if found.role is role:
        say(f"{found.name} is {role} already; nothing to do")
        return
    plan = [f"{found.name}: {found.role} -> {role}"]
    confirm(plan, yes=yes, command=f"crossfade operator set-role {who} {role}")
    opened.set_operator_role(who, role, reason=text)
    say(f"{found.name} is {role}")


@app.command("remove")
def remove(context: typer.Context, who: Who, reason: Reason = None, yes: Yes = False) -> None:
    """Take all rights from an operator, from their next request on. The last admin stays.

    Example: crossfade operator remove ada@example.com --reason "left the team" --yes
    """
    text = _needed(reason, f'remove "{who}"')
    opened = gateway(context)
    found = _find(opened, who)
    plan = [f"remove {found.name}, who is {found.role}; the user of Supabase Auth stays"]
    confirm(plan, yes=yes, command=f"crossfade operator remove {who}")
    opened.remove_operator(who, reason=text)
    say(f"{found.name} is no operator any more")


def _find(opened: Gateway, who: str) -> Operator:
    for found in opened.list_operators():
        if who == found.user_id or who.lower() == (found.email or "").lower():
            return found
    raise refusal(
        ErrorCode.UNKNOWN_OPERATOR, f'No operator "{who}"', hint="See: crossfade operator list"
    )


def _needed(reason: str | None, action: str) -> str:
    if not (reason or "").strip():
        raise InvalidValueError(f"Cannot {action} without a reason", hint='Add --reason "..."')
    return str(reason)

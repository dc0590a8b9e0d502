"""Cohorts: who is served by backend 2 while a pair is live."""

from decimal import Decimal
from typing import Annotated

import typer

from crossfade.cli.names import find_pair, unknown
from crossfade.cli.options import Anyway, AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.cohort import Lists, cohort_changes
from crossfade.flags.model import Cohort
from crossfade.flags.share import share_text
from crossfade.ports import Gateway

app = typer.Typer(no_args_is_help=True, help="Who is served by backend 2 while a pair is live.")
Many = list[str] | None


@app.command("show")
def show(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Show the cohort of a pair.

    Example: crossfade cohort show chat_messages
    """
    found = _cohort(gateway(context), pair)
    columns = [(field, getattr(found, field)) for field in Cohort.__dataclass_fields__]
    emit(found, as_json=as_json, render=lambda: table(("COLUMN", "VALUE"), columns))


@app.command("set")
def set_(
    context: typer.Context,
    pair: PairName,
    percentage: Annotated[
        str | None, typer.Option(help="0 to 100, three decimals at most.", show_default=False)
    ] = None,
    allow_user: Annotated[Many, typer.Option(help="User always served by V2.")] = None,
    deny_user: Annotated[Many, typer.Option(help="User never served by V2.")] = None,
    clear_user: Annotated[Many, typer.Option(help="User to take out of both lists.")] = None,
    allow_agent: Annotated[Many, typer.Option(help="Agent always served by V2.")] = None,
    deny_agent: Annotated[Many, typer.Option(help="Agent never served by V2.")] = None,
    clear_agent: Annotated[Many, typer.Option(help="Agent to take out of both lists.")] = None,
    reason: Reason = None,
    anyway: Anyway = False,
    yes: Yes = False,
) -> None:
    """Change the cohort of a pair. Options for lists may be given several times.

    Example: crossfade cohort set chat_messages --percentage 5 --reason "first users" --yes
    """
    limit: Decimal | None = None if percentage is None else parse_percentage(percentage)
    opened = gateway(context)
    before = _cohort(opened, pair)
    changes = cohort_changes(
        before,
        percentage=limit,
        users=Lists(tuple(allow_user or ()), tuple(deny_user or ()), tuple(clear_user or ())),
        agents=Lists(tuple(allow_agent or ()), tuple(deny_agent or ()), tuple(clear_agent or ())),
    )
    if not changes:
        say(f"The cohort of {pair} is already like that; nothing to do")
        return
    plan = [
        f"{pair}.{key}: {cell(getattr(before, key))} -> {cell(value)}"
        for key, value in changes.items()
    ]
    plan.append(f"now: {share_text(find_pair(opened, pair).backend, before.percentage)}")
    confirm(plan, yes=yes, command=f"crossfade cohort set {pair}")
    done = opened.set_cohort(pair, changes, reason=reason, anyway=anyway)
    share = share_text(done.backend, done.cohort.percentage)
    say(f"{pair}: {share}; flags version {done.flags_version}")


def _cohort(opened: Gateway, pair: str) -> Cohort:
    pairs = opened.read_flags().pairs
    if pair not in pairs:
        raise unknown("pair", pair, pairs, ErrorCode.UNKNOWN_PAIR)
    return pairs[pair].cohort or Cohort(Decimal(0), pair)

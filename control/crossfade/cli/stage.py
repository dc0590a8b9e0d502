"""Stages of a pair."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import Anyway, AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import Stage
from crossfade.core.errors import InvalidValueError, StageRefusedError
from crossfade.flags.share import share_text
from crossfade.pairs.model import PairStatus

app = typer.Typer(no_args_is_help=True, help="Where a pair stands: off ... retired.")
StageWanted = Annotated[Stage, typer.Argument(help="The stage to enter.", show_default=False)]
Confirm = Annotated[
    bool, typer.Option("--confirm", help="Confirm the steps that ask for it, as complete does.")
]


@app.command("show")
def show_(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Show the stage of a pair.

    Example: crossfade stage show chat_messages
    """
    found = find_pair(gateway(context), pair)
    value = {"pair": found.name, "stage": found.stage, "mirror": found.mirror}
    emit(value, as_json=as_json, render=lambda: f"{found.stage} (mirror {cell(found.mirror)})")


@app.command("set")
def set_(
    context: typer.Context,
    pair: PairName,
    stage: StageWanted,
    reason: Reason = None,
    confirm_: Confirm = False,
    anyway: Anyway = False,
    yes: Yes = False,
) -> None:
    """Move a pair to another stage, forward one at a time and back to any earlier one.

    Pairs that belong together move with "crossfade group stage".

    Example: crossfade stage set chat_messages shadow --reason "backfill is done" --yes
    """
    opened = gateway(context)
    found = find_pair(opened, pair)
    if found.stage is stage:
        say(f"{pair} is in {stage} already; nothing to do")
        return
    require_reason(found.stage, stage, reason)
    confirm(
        [
            f"{pair}: stage {found.stage} -> {stage}",
            f"now: {share_text(found.backend, found.percentage)}",
        ],
        yes=yes,
        command=f"crossfade stage set {pair} {stage}",
    )
    with blockers_told():
        done = opened.set_stage(pair, stage, reason=reason, confirm=confirm_, anyway=anyway)
    share = f"; {share_text(done.backend, found.percentage)}" if done.backend else ""
    say(f"{pair}: {done.before} -> {done.after}{share}; flags version {done.flags_version}")


def require_reason(before: Stage, wanted: Stage, reason: str | None) -> None:
    """Raise when a way back has no reason; the database would refuse it as well."""
    if wanted.rank < before.rank and not (reason or "").strip():
        raise InvalidValueError(
            f"Cannot go back from {before} to {wanted} without a reason", hint="Add --reason"
        )


@contextmanager
def blockers_told() -> Iterator[None]:
    """Say, when a stage is refused, what stands before it and what to do."""
    try:
        yield
    except StageRefusedError as error:
        for blocker in error.blockers:
            whose = f"{blocker.pair}: " if blocker.pair else ""
            line = f"  {whose}{blocker.code}: {blocker.message}. {blocker.hint or ''}"
            say(line.rstrip())
        raise


@app.command("blockers")
def blockers(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Say what keeps a pair from its next stage. Exit code 3 when something does.

    Example: crossfade stage blockers chat_messages
    """
    found = find_pair(gateway(context), pair)
    answer = {"pair": pair, "next_stage": found.next_stage, "blockers": found.blockers}
    emit(answer, as_json=as_json, render=lambda: _table(found))
    if found.blockers:
        raise typer.Exit(3)


def _table(found: PairStatus) -> str:
    if found.next_stage is None:
        return f"{found.name} is in its last stage"
    if not found.blockers:
        return f"Nothing keeps {found.name} from {found.next_stage}"
    return table(
        ("STAGE", "CODE", "WHAT IS MISSING", "DO"),
        ((found.next_stage, item.code, item.message, item.hint or "-") for item in found.blockers),
    )

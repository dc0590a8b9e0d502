"""Verification runs and repair."""

from functools import partial
from typing import Annotated, Final

import typer

from crossfade.cli.backfill import (
    SelfDrive,
    StallS,
    TargetMs,
    Workers,
    control,
    driven,
    finish,
    hand_over,
    show_runs,
)
from crossfade.cli.names import find_pair
from crossfade.cli.options import AnyPair, AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say
from crossfade.cli.session import gateway
from crossfade.core.contract import FollowerOnly, RepairAction
from crossfade.core.errors import CrossfadeError
from crossfade.core.values import Key
from crossfade.runs.driver import DriveOptions
from crossfade.runs.model import RepairPlan
from crossfade.runs.verify import repair_all, run_verify

app = typer.Typer(no_args_is_help=True, help="Compare both tables of a pair.")
PLAN_ROWS: Final = 20
"""Rows that a repair shows before it asks."""


@app.command("run")
def run(
    context: typer.Context,
    pair: PairName,
    target_ms: TargetMs = None,
    workers: Workers = 1,
    stall_s: StallS = 1800,
    self_drive: SelfDrive = False,
    as_json: AsJson = False,
) -> None:
    """Compare every row of both tables; exit code 3 when some differ. Changes no row.

    With --self-drive nobody has to stay: it works where the extension pg_cron is installed, and
    "crossfade verify status" says what differs.

    Example: crossfade verify run chat_messages
    """
    opened = gateway(context)
    find_pair(opened, pair)
    if self_drive:
        hand_over(opened, opened.start_verify(pair, ranges=workers).run, as_json=as_json)
        return
    batch = driven(
        f"Verification of {pair}",
        f"crossfade verify run {pair}",
        DriveOptions(target_ms=target_ms, workers=workers, stall_s=stall_s),
        partial(run_verify, opened, pair),
    )
    finish(batch, as_json=as_json)
    if batch.run.mismatches:
        say(f"{batch.run.mismatches} rows differ. Repair them with: crossfade repair {pair}")
        raise typer.Exit(3)
    say("No row differs")


@app.command("status")
def status(context: typer.Context, pair: AnyPair = None, as_json: AsJson = False) -> None:
    """Show verifications, newest first.

    Example: crossfade verify status chat_messages
    """
    show_runs(gateway(context), pair, "verify", as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, pair: PairName, reason: Reason = None) -> None:
    """Let a paused verification go on; "crossfade verify run" drives it.

    Example: crossfade verify resume chat_messages
    """
    control(gateway(context), pair, "verify", "resume", reason)


@app.command("cancel")
def cancel(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """End the verification of a pair for good.

    Example: crossfade verify cancel chat_messages --yes
    """
    opened = gateway(context)
    confirm([f"cancel the verification of {pair}"], yes=yes, command="crossfade verify cancel")
    control(opened, pair, "verify", "cancel", reason)


def repair(
    context: typer.Context,
    pair: PairName,
    batch_rows: Annotated[int, typer.Option(min=1, max=10_000, help="Rows per request.")] = 500,
    follower_only: Annotated[
        FollowerOnly,
        typer.Option(
            help="What becomes of rows that only the follower has, and that no record explains."
        ),
    ] = FollowerOnly.KEEP,
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make both rows agree, for every known difference. Prints by key what it will do, and asks.

    A recorded failure says which side was written; else the leader of the stage wins. A row that
    only the follower has is left alone until you choose: delete it, or copy it to the leader. What
    is replaced or deleted is kept in crossfade.audit.

    Example: crossfade repair chat_messages --reason "after verify 12" --yes
    """
    opened = gateway(context)
    find_pair(opened, pair)
    plan = opened.plan_repair(pair, max_rows=PLAN_ROWS)
    confirm(plan_lines(plan, follower_only), yes=yes, command=f"crossfade repair {pair}")
    done = repair_all(
        opened,
        pair,
        reason=reason,
        batch_rows=batch_rows,
        follower_only=follower_only,
        on_progress=lambda part: say(f"Repaired {part.repaired}, {part.remaining} left"),
    )
    text = f"Repaired {done.repaired} rows, {done.remaining} left"
    emit(done, as_json=as_json, render=lambda: cell(text))
    if done.undecided:
        say(f"{done.undecided} rows are in the follower only and were left alone. Choose with:")
        say(f"  crossfade repair {pair} --follower-only delete")
        say(f"  crossfade repair {pair} --follower-only copy")
    if done.failed:
        raise CrossfadeError(
            f"{done.failed} rows of {pair} could not be repaired",
            hint="crossfade.mismatches and crossfade.mirror_failures say why",
        )
    if done.undecided:
        raise typer.Exit(3)


def plan_lines(plan: RepairPlan, follower_only: FollowerOnly) -> list[str]:
    """Return a repair as a person reads it before it happens."""
    choice = {
        FollowerOnly.KEEP: "leave alone",
        FollowerOnly.DELETE: "delete",
        FollowerOnly.COPY: "copy to the leader",
    }[follower_only]
    lines = [
        f"{choice if row.action is RepairAction.CHOOSE else row.action} {_key(row.key)}"
        f" {'of' if row.action is RepairAction.CHOOSE else 'in'} {row.table}: {row.why}"
        for row in plan.rows
    ]
    if plan.remaining > len(plan.rows):
        lines.append(
            f"{plan.remaining} keys are open; of those not listed, many may agree by themselves"
        )
    return lines or ["nothing to repair"]


def _key(key: Key) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())

"""Pairs that change stage together."""

from functools import partial
from typing import Annotated

import typer

from crossfade.cli import plan as plans
from crossfade.cli import rollback as rollbacks
from crossfade.cli.backfill import (
    StallS,
    TargetMs,
    Way,
    Workers,
    driven,
    outcome,
    require_finished,
)
from crossfade.cli.names import unknown
from crossfade.cli.options import Anyway, AsJson, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.cli.stage import Confirm, StageWanted, blockers_told, require_reason
from crossfade.core.contract import Direction, ErrorCode, Level, Stage
from crossfade.core.errors import InvalidValueError
from crossfade.flags.share import share_text
from crossfade.pairs.model import GroupPair, GroupStatus
from crossfade.ports import Gateway
from crossfade.runs.backfill import run_backfill
from crossfade.runs.driver import DriveOptions
from crossfade.runs.model import Batch
from crossfade.runs.verify import run_verify

app = typer.Typer(no_args_is_help=True, help="Pairs that change stage together.")
GroupName = Annotated[
    str, typer.Argument(help="Name of the group, or of a pair in it.", show_default=False)
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the groups. Pairs that foreign keys tie together are one; so are those of --group.

    Example: crossfade group list
    """
    found = gateway(context).group_status()
    emit(
        found,
        as_json=as_json,
        render=lambda: table(
            ("GROUP", "STAGE", "PAIRS, PARENTS FIRST"),
            ((group.group, _stages(group), _names(group)) for group in found),
        ),
    )


@app.command("show")
def show_(context: typer.Context, group: GroupName, as_json: AsJson = False) -> None:
    """Show where the pairs of a group stand, and what keeps them from the next stage.

    Exit code 3 when something does.

    Example: crossfade group show orders
    """
    found = _find(gateway(context), group)
    emit(found, as_json=as_json, render=lambda: _render(found))
    if found.blockers:
        raise typer.Exit(3)


@app.command("stage")
def stage_(
    context: typer.Context,
    group: GroupName,
    stage: StageWanted,
    reason: Reason = None,
    confirm_: Confirm = False,
    anyway: Anyway = False,
    yes: Yes = False,
) -> None:
    """Move all pairs of a group to a stage in one transaction, or none of them.

    Example: crossfade group stage orders shadow --reason "backfills are done" --yes
    """
    opened = gateway(context)
    found = _find(opened, group)
    moving = [pair for pair in found.pairs if pair.stage is not stage]
    if not moving:
        say(f"All pairs of {found.group} are in {stage} already; nothing to do")
        return
    require_reason(max((pair.stage for pair in moving), key=lambda at: at.rank), stage, reason)
    confirm(
        [
            f"{pair.pair}: stage {pair.stage} -> {stage};"
            f" now {share_text(pair.backend, pair.percentage)}"
            for pair in moving
        ],
        yes=yes,
        command=f"crossfade group stage {group} {stage}",
    )
    with blockers_told():
        done = opened.set_group_stage(
            found.group, stage, reason=reason, confirm=confirm_, anyway=anyway
        )
    for pair in done.pairs:
        say(f"{pair.pair}: {pair.before} -> {pair.after}")


@app.command("plan")
def plan(
    context: typer.Context,
    group: GroupName,
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="Rows to measure.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Say what going through the stages will do, for each pair as "crossfade plan" does.

    Exit code 3 when something keeps one of them from working.

    Example: crossfade group plan orders
    """
    opened = gateway(context)
    found = tuple(
        opened.plan_pair(pair.pair, sample_rows=sample) for pair in _find(opened, group).pairs
    )
    emit(
        found,
        as_json=as_json,
        render=lambda: "\n\n\n".join(plans.render(item) for item in found),
    )
    if any(item.problems or item.measured.error for item in found):
        raise typer.Exit(3)


@app.command("backfill")
def backfill(
    context: typer.Context,
    group: GroupName,
    direction: Way = Direction.V1_TO_V2,
    target_ms: TargetMs = None,
    workers: Workers = 1,
    stall_s: StallS = 1800,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Copy the rows of all pairs of a group, parents first. Ctrl-C is safe at any moment.

    Pairs that are copied already are left out, so the same command goes on where it stopped.

    Example: crossfade group backfill orders --yes
    """
    opened = gateway(context)
    found = _find(opened, group)
    pairs = [pair.pair for pair in found.pairs if _is_missing(pair, direction)]
    confirm(
        [f"copy {pair}, {direction}" for pair in pairs] or ["nothing to copy"],
        yes=yes,
        command=f"crossfade group backfill {group}",
    )
    options = DriveOptions(target_ms=target_ms, workers=workers, stall_s=stall_s)
    done: list[Batch] = []
    for pair in pairs:
        batch = driven(
            f"Backfill of {pair}",
            f"crossfade group backfill {group}",
            options,
            partial(run_backfill, opened, pair, direction=direction),
        )
        require_finished(batch)
        done.append(batch)
    _emit_runs(done, as_json=as_json)


@app.command("verify")
def verify(
    context: typer.Context,
    group: GroupName,
    target_ms: TargetMs = None,
    workers: Workers = 1,
    stall_s: StallS = 1800,
    as_json: AsJson = False,
) -> None:
    """Compare every row of all pairs of a group: one verdict. Exit code 3 when some differ.

    Example: crossfade group verify orders
    """
    opened = gateway(context)
    options = DriveOptions(target_ms=target_ms, workers=workers, stall_s=stall_s)
    done: list[Batch] = []
    for pair in _find(opened, group).pairs:
        batch = driven(
            f"Verification of {pair.pair}",
            f"crossfade group verify {group}",
            options,
            partial(run_verify, opened, pair.pair),
        )
        require_finished(batch)
        done.append(batch)
    _emit_runs(done, as_json=as_json)
    differing = {batch.run.pair: batch.run.mismatches for batch in done if batch.run.mismatches}
    for name, rows in differing.items():
        say(f"{rows} rows of {name} differ. Repair them with: crossfade repair {name}")
    if differing:
        raise typer.Exit(3)
    say(f"No row of {group} differs")


@app.command("rollback")
def rollback(
    context: typer.Context,
    group: GroupName,
    level: Annotated[
        Level,
        typer.Option(case_sensitive=False, help="PARTIAL, COMPLETE or EMERGENCY, of every pair."),
    ] = Level.COMPLETE,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would happen.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take all pairs of a group back in one transaction, as "crossfade rollback run" of each does.

    Example: crossfade group rollback orders --reason "orders are slow" --yes
    """
    if level is Level.FEATURE:
        raise InvalidValueError(
            "FEATURE is about one flag", hint="crossfade rollback run --level FEATURE --flag NAME"
        )
    found = _find(gateway(context, older=True), group)
    rollbacks.run(
        context,
        level,
        pair=found.pairs[0].pair,
        reason=reason,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _emit_runs(done: list[Batch], *, as_json: bool) -> None:
    emit(
        [batch.run for batch in done],
        as_json=as_json,
        render=lambda: "\n".join(outcome(batch) for batch in done) or "Nothing to do",
    )


def _find(opened: Gateway, name: str) -> GroupStatus:
    groups = opened.group_status()
    # A name that is a group's wins over that of a pair.
    for group in sorted(groups, key=lambda group: group.group != name):
        if name in (group.group, *_members(group)):
            return group
    raise unknown("group", name, (group.group for group in groups), ErrorCode.UNKNOWN_PAIR)


def _members(group: GroupStatus) -> list[str]:
    return [pair.pair for pair in group.pairs]


def _is_missing(pair: GroupPair, direction: Direction) -> bool:
    if direction is Direction.V2_TO_V1:
        return pair.needs_reverse_backfill
    return pair.last_backfill_at is None


def _names(group: GroupStatus) -> str:
    return ", ".join(_members(group))


def _stages(group: GroupStatus) -> str:
    found = {pair.stage for pair in group.pairs}
    return " to ".join(stage for stage in Stage if stage in found)


def _render(group: GroupStatus) -> str:
    stands = table(
        ("PAIR", "STAGE", "MIRROR", "ON V2", "COPIED", "CLEAN"),
        (
            (
                pair.pair,
                pair.stage,
                pair.mirror,
                "?" if pair.backend is None else f"{cell(pair.backend.share_pct)} %",
                pair.last_backfill_at,
                pair.last_clean_verify_at,
            )
            for pair in group.pairs
        ),
    )
    if group.next_stage is None:
        return stands
    if not group.blockers:
        return f"{stands}\n\nNothing keeps them from {group.next_stage}"
    missing = table(
        ("PAIR", "WHAT IS MISSING", "DO"),
        ((item.pair, item.message, item.hint or "-") for item in group.blockers),
    )
    return f"{stands}\n\nBefore {group.next_stage}:\n{missing}"

"""Backfill runs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from crossfade.cli.bar import Bar
from crossfade.cli.names import find_pair
from crossfade.cli.options import AnyPair, AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import Direction, RunState
from crossfade.core.errors import CrossfadeError, UnknownNameError
from crossfade.ports import Gateway
from crossfade.runs.backfill import run_backfill
from crossfade.runs.driver import DriveOptions
from crossfade.runs.model import Batch, Run

app = typer.Typer(no_args_is_help=True, help="Copy the old rows of a pair, in batches.")
Way = Annotated[Direction, typer.Option(help="Which way rows are copied.")]
TargetMs = Annotated[
    int | None,
    typer.Option(
        min=10,
        max=5000,
        help="Wanted time of one batch, in ms; default: by the settings batch_* and the load.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=16, help="Batches at the same time.")]
SelfDrive = Annotated[
    bool,
    typer.Option("--self-drive", help="Let pg_cron do it inside the database, and return at once."),
]
StallS = Annotated[float, typer.Option(min=1, help="Give up after so long without progress.")]


@app.command("start")
def start(
    context: typer.Context,
    pair: PairName,
    direction: Way = Direction.V1_TO_V2,
    ranges: Annotated[int, typer.Option(min=1, max=64, help="Parts that can run at once.")] = 1,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Start a backfill without driving it; "crossfade backfill run" drives.

    Example: crossfade backfill start chat_messages --ranges 4 --yes
    """
    opened = gateway(context)
    _announce(opened, pair, direction, yes=yes, command="start")
    done = opened.start_backfill(pair, direction=direction, ranges=ranges)
    state = "exists already" if done.already else "started"
    emit(done, as_json=as_json, render=lambda: f"Run {done.run.id} {state}")


@app.command("run")
def run(
    context: typer.Context,
    pair: PairName,
    direction: Way = Direction.V1_TO_V2,
    target_ms: TargetMs = None,
    workers: Workers = 1,
    stall_s: StallS = 1800,
    self_drive: SelfDrive = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Start a backfill or continue the one that is not over, and drive it to its end.

    Ctrl-C is safe at any moment: the same command continues after the last committed batch.
    With --self-drive nobody has to stay: it works where the extension pg_cron is installed.

    Example: crossfade backfill run chat_messages --yes
    """
    opened = gateway(context)
    _announce(opened, pair, direction, yes=yes, command="run")
    if self_drive:
        started = opened.start_backfill(pair, direction=direction, ranges=workers)
        hand_over(opened, started.run, as_json=as_json)
        return
    batch = driven(
        f"Backfill of {pair}",
        f"crossfade backfill run {pair}",
        DriveOptions(target_ms=target_ms, workers=workers, stall_s=stall_s),
        partial(run_backfill, opened, pair, direction=direction),
    )
    finish(batch, as_json=as_json)


def hand_over(opened: Gateway, run: Run, *, as_json: bool) -> None:
    """Let the database drive a run, and say how to watch it."""
    done = opened.drive_run(run.id, enabled=True)
    text = f"Run {run.id} of {run.pair} drives itself: job {done.job}, schedule {done.schedule}"
    emit(done, as_json=as_json, render=lambda: cell(text))
    say(f"Watch it with: crossfade {run.kind} status {run.pair}")


def driven(title: str, command: str, options: DriveOptions, drive: Callable[..., Batch]) -> Batch:
    """Drive a run under a bar; on Ctrl-C say that nothing is lost and what goes on, and leave.

    ``drive`` is run_backfill or run_verify, with all but its options.
    """
    with Bar(title) as bar:
        try:
            return drive(options=replace(options, on_progress=bar.update))
        except KeyboardInterrupt:
            say(f"Interrupted; every committed batch is kept. Continue with: {command}")
            raise typer.Exit(130) from None


def finish(batch: Batch, *, as_json: bool) -> None:
    """Print the run; exit code 1 unless it finished."""
    emit(batch.run, as_json=as_json, render=lambda: outcome(batch))
    require_finished(batch)


def outcome(batch: Batch) -> str:
    """What a run did, in one line."""
    done = batch.run
    text = f"Run {done.id} of {done.pair} {batch.state}: {done.rows_done} rows read"
    return f"{text}, {done.rows_written} written"


def require_finished(batch: Batch) -> None:
    """Raise unless the run has finished."""
    done = batch.run
    if batch.state is not RunState.FINISHED:
        raise CrossfadeError(
            f"Run {done.id} is {batch.state}{f': {batch.reason}' if batch.reason else ''}",
            hint=f"Continue with: crossfade {done.kind} resume {done.pair}",
        )


def _announce(opened: Gateway, pair: str, direction: Direction, *, yes: bool, command: str) -> None:
    found = find_pair(opened, pair)
    active = next((item for item in found.runs if item.kind == "backfill"), None)
    source = found.v1_table if direction is Direction.V1_TO_V2 else found.v2_table
    target = found.v2_table if direction is Direction.V1_TO_V2 else found.v1_table
    plan = (
        f"continue run {active.id} ({active.rows_done} rows done)"
        if active
        else f"copy rows of {source} that {target} does not have yet"
    )
    confirm([plan], yes=yes, command=f"crossfade backfill {command} {pair}")


@app.command("status")
def status(context: typer.Context, pair: AnyPair = None, as_json: AsJson = False) -> None:
    """Show backfills, newest first.

    Example: crossfade backfill status chat_messages --json
    """
    show_runs(gateway(context), pair, "backfill", as_json=as_json)


def show_runs(opened: Gateway, pair: str | None, kind: str, *, as_json: bool) -> None:
    """Print the runs of one kind."""
    if pair:
        find_pair(opened, pair)
    found = opened.list_runs(pair, kind=kind)
    emit(found, as_json=as_json, render=lambda: runs_table(found))


def runs_table(runs: tuple[Run, ...]) -> str:
    """Runs for people."""
    return table(
        ("RUN", "PAIR", "WAY", "STATE", "DONE", "OF ABOUT", "WRITTEN", "DIFFER", "LAST PROGRESS"),
        (
            (
                run.id,
                run.pair,
                run.direction,
                run.state,
                run.rows_done,
                run.rows_total,
                run.rows_written,
                run.mismatches,
                run.progress_at,
            )
            for run in runs
        ),
    )


def control(opened: Gateway, pair: str, kind: str, action: str, reason: str | None) -> None:
    """Pause, resume or cancel the active run of a pair."""
    found = find_pair(opened, pair)
    active = next((item for item in found.runs if item.kind == kind), None)
    if active is None:
        raise UnknownNameError(
            f"{pair} has no {kind} to {action}", hint=f"See: crossfade {kind} status {pair}"
        )
    done = opened.control_run(active.id, action, reason=reason)
    say(f"Run {done.id} of {pair} is {done.state}")


@app.command("pause")
def pause(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Pause the backfill of a pair; workers stop after their batch.

    Example: crossfade backfill pause chat_messages --reason "peak hour" --yes
    """
    opened = gateway(context)
    confirm([f"pause the backfill of {pair}"], yes=yes, command=f"crossfade backfill pause {pair}")
    control(opened, pair, "backfill", "pause", reason)


@app.command("resume")
def resume(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Let a paused backfill go on; "crossfade backfill run" drives it.

    Example: crossfade backfill resume chat_messages --yes
    """
    opened = gateway(context)
    confirm(
        [f"resume the backfill of {pair}"], yes=yes, command=f"crossfade backfill resume {pair}"
    )
    control(opened, pair, "backfill", "resume", reason)


@app.command("cancel")
def cancel(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """End the backfill of a pair for good; copied rows stay.

    Example: crossfade backfill cancel chat_messages --reason "wrong converter" --yes
    """
    opened = gateway(context)
    confirm(
        [f"cancel the backfill of {pair}; a later one begins from the start"],
        yes=yes,
        command=f"crossfade backfill cancel {pair}",
    )
    control(opened, pair, "backfill", "cancel", reason)

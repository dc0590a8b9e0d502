"""Pairs."""

from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.contract import FailurePolicy, PartitionRemoval
from crossfade.core.errors import InvalidValueError
from crossfade.pairs.check import CheckProgress, CheckReport, check_pair, client_policy, explain
from crossfade.pairs.model import PairSpec, PairStatus, PairWrites

app = typer.Typer(no_args_is_help=True, help="Two tables and the functions between them.")


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the pairs.

    Example: crossfade pair list --json
    """
    pairs = gateway(context).pair_status()
    emit(pairs, as_json=as_json, render=lambda: _table(pairs))


def _table(pairs: tuple[PairStatus, ...]) -> str:
    return table(
        ("NAME", "V1", "V2", "STAGE", "ON V2", "MIRROR", "FAILURES", "MISMATCHES"),
        (
            (
                pair.name,
                pair.v1_table,
                pair.v2_table,
                pair.stage,
                "?" if pair.backend is None else f"{cell(pair.backend.share_pct)} %",
                pair.mirror,
                pair.open_failures,
                pair.open_mismatches,
            )
            for pair in pairs
        ),
    )


@app.command("show")
def show(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Show everything about one pair.

    Example: crossfade pair show chat_messages
    """
    found = find_pair(gateway(context), pair)
    columns = [
        (field, getattr(found, field))
        for field in PairStatus.__dataclass_fields__
        if field not in ("runs", "last_runs", "blockers")
    ]
    emit(found, as_json=as_json, render=lambda: table(("WHAT", "VALUE"), columns))


@app.command("register")
def register(
    context: typer.Context,
    pair: PairName,
    v1: Annotated[str, typer.Option(help="V1 table, as schema.table.", show_default=False)],
    v2: Annotated[str, typer.Option(help="V2 table, as schema.table.", show_default=False)],
    to_v2: Annotated[str, typer.Option(help="Function V1 -> V2.", show_default=False)],
    to_v1: Annotated[str, typer.Option(help="Function V2 -> V1.", show_default=False)],
    key: Annotated[
        list[str] | None, typer.Option(help="Key column; the primary key when left out.")
    ] = None,
    failure_policy: Annotated[
        FailurePolicy | None,
        typer.Option(help="What a mirror failure does to the write.", show_default="record"),
    ] = None,
    gate_flag: Annotated[str | None, typer.Option(help="Flag that V2 needs.")] = None,
    cohort_key: Annotated[
        str | None, typer.Option(help="Key of the buckets.", show_default="the pair's name")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Pairs of one group change stage together.",
            show_default="that of the pairs to which foreign keys tie it",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Register a pair: its triggers are made, but nothing is mirrored before stage dualwrite.

    Example: crossfade pair register notes --v1 public.notes --v2 public.notes_v2
    --to-v2 public.note_to_v2 --to-v1 public.note_to_v1 --yes
    """
    spec = PairSpec(
        name=pair,
        v1=v1,
        v2=v2,
        to_v2=to_v2,
        to_v1=to_v1,
        key=tuple(key or ()),
        failure_policy=failure_policy,
        gate_flag=gate_flag,
        cohort_key=cohort_key,
        group=group,
    )
    opened = gateway(context)
    confirm(
        [
            f"register {pair}: {v1} <-> {v2}, converted by {to_v2} and {to_v1}",
            "create triggers on both tables (stage off: they do nothing yet)",
        ],
        yes=yes,
        command=f"crossfade pair register {pair}",
    )
    done = opened.register_pair(spec)
    for warning in done.warnings:
        say(f"Warning: {warning}")
    say(f"{done.name} is registered. Prove its converters with: crossfade pair check {done.name}")


@app.command("check")
def check(
    context: typer.Context,
    pair: PairName,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Rows per table, from all over it.", show_default="all"),
    ] = None,
    side: Annotated[int | None, typer.Option(min=1, max=2, help="Only V1 or only V2.")] = None,
    batch_rows: Annotated[int, typer.Option(min=1, max=10_000, help="Rows per request.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Prove on the live rows that converting there and back loses nothing. Only reads.

    Says first what registration would say of the tables as they are now. Exit code 3 when it would
    refuse them, or when a row breaks a law: 1 V1 -> V2 -> V1, 2 V2 -> V1 -> V2, 3 an edit wins, 4
    what it did not touch survives, 5 never raises, 6 no setting makes a difference, 7 what comes
    out keeps the constraints of the other table. Edits give a row the values of the next one.

    Example: crossfade pair check chat_messages --sample 10000
    """
    opened = gateway(context)
    find_pair(opened, pair)
    judged = opened.judge_pair(pair)
    for problem in judged.problems:
        say(f"Problem: {problem}")
    for warning in judged.warnings:
        say(f"Warning: {warning}")
    report = check_pair(
        opened,
        pair,
        sides=(side,) if side else (1, 2),
        batch_rows=batch_rows,
        sample_rows=sample,
        on_progress=_progress,
    )
    emit(report, as_json=as_json, render=lambda: _report(report))
    if judged.problems or not report.is_clean:
        raise typer.Exit(3)


def _progress(progress: CheckProgress) -> None:
    total = f" of about {progress.rows_total}" if progress.rows_total else ""
    found = f", {progress.violations} violations" if progress.violations else ""
    say(f"V{progress.side}: {progress.rows_checked}{total} rows checked{found}")


def _report(report: CheckReport) -> str:
    alone = f"{report.no_counterpart} rows have no counterpart: the converter makes none of them"
    if report.is_clean:
        lines = [f"All {report.rows_checked} rows keep the laws"]
        return "\n".join([*lines, alone] if report.no_counterpart else lines)
    laws = ", ".join(f"law {law}: {count}" for law, count in report.violated.items())
    lines = [f"{report.count} violations in {report.rows_checked} rows ({laws})"]
    lines += [alone] if report.no_counterpart else []
    for item in report.violations:
        lines += explain(item)
    hidden = report.count - len(report.violations)
    return "\n".join([*lines, f"... and {hidden} more"] if hidden else lines)


@app.command("refresh")
def refresh(
    context: typer.Context, pair: PairName, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Make the mirror of a pair anew, as doctor asks after an upgrade or a new trigger of yours.

    Example: crossfade pair refresh notes --yes
    """
    opened = gateway(context)
    found = find_pair(opened, pair)
    confirm(
        [
            f"make the mirror of {pair} anew: functions and triggers of {found.v1_table} and"
            f" {found.v2_table}",
            "each table lets writers wait for milliseconds; rows, stage and cohort stay",
        ],
        yes=yes,
        command=f"crossfade pair refresh {pair}",
    )
    done = opened.refresh_pair(pair)
    text = f"The mirror of {pair} is that of crossfade {done.after}"
    emit(done, as_json=as_json, render=lambda: cell(text))


@app.command("writes")
def writes_(
    context: typer.Context,
    pair: PairName,
    minutes: Annotated[int, typer.Option(min=1, max=43200, help="How far back.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Show who wrote which table lately, as the mirror counted it: also without an edge function.

    user: roles anon and authenticated; service: service_role; direct: everybody else. A statement
    counts once, also when it found no row or was rolled back; nothing is counted in stage off.

    Example: crossfade pair writes notes --minutes 1440
    """
    found = gateway(context).pair_writes(pair, minutes=minutes)
    emit(
        found,
        as_json=as_json,
        render=lambda: table(
            ("TABLE", "SOURCE", "STATEMENTS", "LAST COUNTED"),
            (
                (f"V{side}", source, str(count), _last_counted(found, side, source))
                for side, by_source in sorted(found.sides.items())
                for source, count in by_source.items()
            ),
        ),
    )


def _last_counted(found: PairWrites, side: int, source: str) -> str:
    minutes = [row.minute for row in found.minutes if (row.side, row.source) == (side, source)]
    return f"{max(minutes):%Y-%m-%d %H:%M} UTC" if minutes else "-"


@app.command("remove-partition")
def remove_partition(
    context: typer.Context,
    pair: PairName,
    partition: Annotated[str, typer.Argument(help="Its name, as schema.table.")],
    how: Annotated[PartitionRemoval, typer.Option(help="What becomes of it.", show_default=False)],
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Detach, drop or truncate a partition, with what the other table has of its rows.

    Both in one transaction. Done by hand it would leave those rows to verify and repair.

    Example: crossfade pair remove-partition events public.events_2026_01 --how drop
    """
    opened = gateway(context)
    find_pair(opened, pair)
    if not (reason or "").strip():
        raise InvalidValueError(f"Cannot {how} {partition} without a reason", hint="Add --reason")
    confirm(
        [
            f"{how} {partition}, and delete what the other table of {pair} has of its rows",
            "writers of the partition wait until it is done",
        ],
        yes=yes,
        command=f"crossfade pair remove-partition {pair} {partition} --how {how}",
    )
    done = opened.remove_partition(pair, partition, how=how, reason=str(reason))
    text = f"{done.partition}: {done.how}; {done.rows} rows of the other table went with it"
    emit(done, as_json=as_json, render=lambda: cell(text))


@app.command("client-policy")
def client_policy_(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Print the policy for apps that call the tables themselves, without an edge function.

    It keeps signed-in users from V2 until my_backend serves them from it, and at a kill switch. Put
    it into a migration once V2 has its own policies. control/CLIENTS.md tells the whole story.

    Example: crossfade pair client-policy notes > supabase/migrations/20260101000000_clients.sql
    """
    found = find_pair(gateway(context), pair)
    text = client_policy(found.name, found.v2_table)
    emit({"sql": text}, as_json=as_json, render=lambda: text)


@app.command("ignore")
def ignore(
    context: typer.Context,
    pair: PairName,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Objects, as crossfade plan names them.", show_default=False),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all exceptions back.")] = False,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Let objects depend on V1 when it becomes an archive: they no longer block stage complete.

    Example: crossfade pair ignore notes public.old_report --reason "nobody reads it" --yes
    """
    opened = gateway(context)
    find_pair(opened, pair)
    if bool(names) is none:
        raise InvalidValueError("Nothing to ignore", hint="Name objects, or take all back: --none")
    if not (reason or "").strip():
        raise InvalidValueError(
            f'Cannot let objects depend on version 1 of "{pair}" without a reason',
            hint="Add --reason",
        )
    what = "nothing may depend on version 1" if none else f"ignore {', '.join(names or ())}"
    confirm([f"{pair}: {what}"], yes=yes, command=f"crossfade pair ignore {pair}")
    done = opened.ignore_dependents(pair, names or (), reason=str(reason))
    say(f"Ignored for {pair}: {', '.join(done.after) or 'nothing'}")


@app.command("remove")
def remove(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Forget a pair: its triggers go, both tables and all their rows stay.

    Example: crossfade pair remove notes --reason "migration is over" --yes
    """
    opened = gateway(context)
    find_pair(opened, pair)
    if not (reason or "").strip():
        raise InvalidValueError(f'Cannot remove "{pair}" without a reason', hint="Add --reason")
    confirm(
        [f"remove pair {pair}: drop its triggers, keep both tables"],
        yes=yes,
        command=f"crossfade pair remove {pair}",
    )
    opened.unregister_pair(pair, reason=str(reason))
    say(f"{pair} is removed")

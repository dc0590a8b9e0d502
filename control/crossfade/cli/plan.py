"""``crossfade plan``: what the stages will do, before anything is switched on."""

from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName
from crossfade.cli.output import emit, seconds, show, table
from crossfade.cli.session import gateway
from crossfade.pairs.catalog import PairPlan, TableInfo


def plan(
    context: typer.Context,
    pair: PairName,
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="Rows to measure.")] = 2000,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL that will run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what going through the stages will do: SQL, locks, what is in the way, how long.

    Changes nothing; the speed is measured on a temporary table. Exit code 3 when something keeps
    the pair from working.

    Example: crossfade plan orders
    """
    opened = gateway(context)
    find_pair(opened, pair)
    found = opened.plan_pair(pair, sample_rows=sample)
    if sql:
        parts = [found.sql.backfill, *found.sql.triggers, *found.sql.trigger_functions]
        show(";\n\n".join(part.strip() for part in parts) + ";")
    else:
        emit(found, as_json=as_json, render=lambda: render(found))
    if found.problems or found.measured.error:
        raise typer.Exit(3)


def render(found: PairPlan) -> str:
    """The plan as text."""
    parts = [
        f"{found.pair}: {' -> '.join(t.table for t in found.tables)}, stage {found.stage}",
        *(f"Problem: {text}" for text in found.problems),
        *(f"Warning: {text}" for text in found.warnings),
        _tables(found),
        _in_the_way(found),
        _dependents(found),
        table(
            ("STEP", "LOCK", "HELD", "COMMAND"),
            ((step.step, step.lock, step.held, step.command) for step in found.steps),
        ),
        _backfill(found),
        *(
            f"{step.step} means: {step.does}."
            for step in found.steps
            if step.step in ("complete", "retired")
        ),
        f"The SQL itself: crossfade plan {found.pair} --sql",
    ]
    return "\n\n".join(part for part in parts if part)


def _tables(found: PairPlan) -> str:
    return table(
        ("TABLE", "ROWS (ESTIMATE)", "SIZE", "INDEXES", "RLS POLICIES", "TRIGGERS"),
        (
            (
                item.table,
                item.rows if item.analyzed else "unknown: run analyze",
                megabytes(item.bytes),
                megabytes(item.index_bytes),
                len(item.policies),
                len(item.triggers),
            )
            for item in found.tables
        ),
    )


def _in_the_way(found: PairPlan) -> str:
    lines = [line for item in found.tables for line in _of_table(item)]
    if found.oldest_transaction_s:
        lines.append(
            f"a transaction that writes has been open for {seconds(found.oldest_transaction_s)}: "
            "a backfill begins when all of them that are older than the mirror have ended"
        )
    return "In the way of each write:\n  " + "\n  ".join(lines) if lines else ""


def _of_table(item: TableInfo) -> list[str]:
    lines = [
        f"{item.table}: trigger {trigger.name} runs for mirrored rows too"
        for trigger in item.triggers
        if trigger.enabled
    ]
    lines += [
        f"{item.table}: policy {policy.name} decides what users see of it"
        for policy in item.policies
    ]
    lines += [
        f"{item.table}: {constraint.name}, {constraint.definition}"
        for constraint in item.constraints
        if constraint.kind in ("f", "u", "x")
    ]
    lines += [
        f"{item.table}: publication {name} sends mirrored rows as well"
        for name in item.publications
    ]
    return lines


def _dependents(found: PairPlan) -> str:
    lines = [
        f"{item.kind} {item.object} (owner {item.owner}) {item.breaks}; "
        + ("ignored" if item.is_ignored else item.command)
        for item in found.dependents
    ]
    return "Depends on V1, to be settled before complete:\n  " + "\n  ".join(lines) if lines else ""


def _backfill(found: PairPlan) -> str:
    measured = found.measured
    if measured.error:
        return (
            f"Backfill: to_v2 fails on a row: {measured.error}. "
            f"See which: crossfade pair check {found.pair}"
        )
    if not measured.rows or found.estimate_s is None:
        return "Backfill: V1 has no rows yet"
    return (
        f"Backfill: {measured.rows} rows were converted at {measured.rows_per_s:.0f} rows/s, so all"
        f" take about {seconds(found.estimate_s)} and up to {seconds(found.estimate_s * 4)} with"
        " foreign keys, the log, triggers and throttling, which are not measured"
    )


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.1f} MB"

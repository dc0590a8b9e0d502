"""A key of another type: V1 carries it in a column of its own."""

import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.backfill import StallS, TargetMs, driven
from crossfade.cli.migration_files import write_migrations
from crossfade.cli.options import AsJson, Yes
from crossfade.cli.output import emit, say, show
from crossfade.cli.owner_steps import remarks, render
from crossfade.cli.session import gateway
from crossfade.core.contract import RunState
from crossfade.core.errors import CrossfadeError
from crossfade.pairs.catalog import CarryPlan
from crossfade.ports import Gateway
from crossfade.runs.carry import run_fill
from crossfade.runs.driver import DriveOptions

app = typer.Typer(no_args_is_help=True, help="A key of another type: from an integer to a uuid.")


@app.callback()
def _group() -> None:
    """Keep ``carry`` a command of its own: alone it would become the group itself."""


@app.command("carry")
def carry(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="TABLE", help="V1 table, as schema.table.", show_default=False)
    ],
    column: Annotated[str, typer.Option(help="The column that is to hold the uuid.")] = "uid",
    project: Annotated[
        Path | None,
        typer.Option("--project", "--into", help="Write what is due as migrations there."),
    ] = None,
    fire_triggers: Annotated[
        bool, typer.Option("--fire-triggers", help="Let the owner's triggers run for filled rows.")
    ] = False,
    target_ms: TargetMs = None,
    stall_s: StallS = 1800,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL that is due.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give V1 a uuid column that a pair can be keyed by, step after step; --yes does the next one.

    Without a rewrite and without a long lock. What its owner has to do are migrations (--project);
    the rows that are there are filled in batches. The same command continues at any point.

    Example: crossfade key carry public.orders --project ../my-project --yes
    """
    opened = gateway(context)
    plan = opened.carry_plan(name, column=column)
    if sql and not as_json:
        show("\n".join(file.sql for file in plan.files).rstrip("\n"))
        return
    command = _command(plan, column)
    written: list[str] = []
    if _is_due(plan, "fill") and yes:
        options = DriveOptions(target_ms=target_ms, stall_s=stall_s)
        _fill(opened, plan, command, options, fires_triggers=fire_triggers)
        plan = opened.carry_plan(name, column=column)
    if project and plan.files:
        # Whoever uncomments what keeps a trigger from running has edited the first one.
        due = {file.name: file.sql for file in plan.files}
        written = write_migrations(project, due, keep_edited=True)
    emit({**asdict(plan), "written": written}, as_json=as_json, render=lambda: render(plan))
    for text in remarks(plan):
        say(text)
    for file in written:
        say(f"  to do: review {file}")
    say(f"  to do: {_to_do(plan, command, project)}")
    if plan.problems:
        raise typer.Exit(3)


def _command(plan: CarryPlan, column: str) -> str:
    option = "" if column == "uid" else f" --column {column}"
    return f"crossfade key carry {plan.table}{option}"


def _is_due(plan: CarryPlan, step: str) -> bool:
    return plan.next is not None and plan.next.step == step and plan.next.state == "next"


def _fill(
    opened: Gateway, plan: CarryPlan, command: str, options: DriveOptions, *, fires_triggers: bool
) -> None:
    last = driven(
        f"Fill of {plan.table}",
        f"{command} --yes",
        options,
        partial(run_fill, opened, plan.table, column=plan.column, fires_triggers=fires_triggers),
    )
    if last.state is not RunState.FINISHED:
        raise CrossfadeError(
            f"The fill of {plan.table} is {last.state}: {last.reason}",
            hint=f"Continue with: {command} --yes",
        )


def _to_do(plan: CarryPlan, command: str, project: Path | None) -> str:
    """What a person does next."""
    step = plan.next
    if plan.problems:
        return f"change what is named, then: {command}"
    if step is None:
        if plan.pair:
            return f"nothing; {plan.table} belongs to pair {plan.pair}"
        pair = re.sub(r"[^a-z0-9]+", "_", plan.table.split(".")[-1].lower()).strip("_")
        return f"crossfade pair new {pair} --v1 {plan.table} --key {plan.column}"
    if step.state == "running":
        return f"wait for the index, then: {command}"
    if step.state == "broken":
        return f"remove the broken index (as printed), then: {command}"
    if step.step == "fill":
        if plan.triggers:
            return (
                f"triggers run for every row that is filled: {', '.join(plan.triggers)}; give them "
                "a condition, as the first migration shows, or let them: "
                f"{command} --fire-triggers --yes"
            )
        return f"{command} --yes"
    if project:
        return f"supabase db push, then: {command}"
    return f"{command} --project DIR, then supabase db push"

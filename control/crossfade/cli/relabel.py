"""A plain table becomes the first partition of a partitioned table of its name."""

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from crossfade.cli.migration_files import write_migrations
from crossfade.cli.options import AsJson
from crossfade.cli.output import emit, say, show
from crossfade.cli.owner_steps import remarks, render
from crossfade.cli.session import gateway
from crossfade.pairs.catalog import RelabelPlan


def relabel(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="TABLE", help="As schema.table.", show_default=False)
    ],
    by: Annotated[str, typer.Option(help="The column to partition by, in ranges.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Where the first partition ends, greater than every value there is.",
            show_default="for times the first of the month after the next",
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option("--project", "--into", help="Write what is due as migrations there."),
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL that is due.")] = False,
    as_json: AsJson = False,
) -> None:
    """Partition a table whose rows stay as they are: it becomes the first partition of its name.

    Changes no database: the steps are migrations (--project). No row is copied, and nothing holds
    the table for longer than milliseconds. The same command says how far it is at any point.

    Example: crossfade relabel public.events --by at --to 2027-03-01 --project ../my-project
    """
    plan = gateway(context).relabel_plan(name, column=by, to_value=to)
    if sql and not as_json:
        show("\n".join(file.sql for file in plan.files).rstrip("\n"))
        return
    written: list[str] = []
    if project and plan.files:
        written = write_migrations(project, {file.name: file.sql for file in plan.files})
    emit({**asdict(plan), "written": written}, as_json=as_json, render=lambda: render(plan))
    for text in remarks(plan):
        say(text)
    for file in written:
        say(f"  to do: review {file}")
    say(f"  to do: {_to_do(plan, to, project)}")
    if plan.problems:
        raise typer.Exit(3)


def _to_do(plan: RelabelPlan, to: str | None, project: Path | None) -> str:
    """What a person does next."""
    option = f" --to {quote(to)}" if to else ""
    command = f"crossfade relabel {quote(plan.table)} --by {quote(plan.column)}{option}"
    step = plan.next
    if plan.problems:
        return f"change what is named, then: {command}"
    if step is None:
        return f"make the next partitions of {plan.table}, ahead of their rows (PARTITIONS.md)"
    if step.state == "running":
        return f"wait for the index, then: {command}"
    if step.state == "broken":
        return f"remove the broken index (as printed), then: {command}"
    if project:
        return f"supabase db push, then: {command}"
    return f"{command} --project DIR, then supabase db push"

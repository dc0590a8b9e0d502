"""Installing into a project."""

from pathlib import Path
from typing import Annotated

import typer

from crossfade import resources
from crossfade.cli.options import AsJson, Yes
from crossfade.cli.output import confirm, emit, say
from crossfade.install import apply_install, plan_install


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install")(install)


def install(
    project: Annotated[Path, typer.Argument(help="Folder that holds supabase/.")] = Path(),
    dry_run: Annotated[bool, typer.Option(help="Only say what would be copied.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Copy the migrations and the shared edge code into a project. Touches no database.

    Running it again copies only what is new.

    Example: crossfade install ../my-project --yes
    """
    plan = plan_install(
        project, migrations=resources.migrations_dir(), functions=resources.functions_dir()
    )
    for name in plan.kept:
        say(f"  kept {name}: it was edited since it was installed")
    if plan.copies and not dry_run:
        confirm(
            [f"write {copy.target}" for copy in plan.copies],
            yes=yes,
            command=f"crossfade install {project}",
        )
        apply_install(plan)
    written = [copy.target for copy in plan.copies]
    word = "Would write" if dry_run else "Wrote"
    text = f"{word} {len(written)} files" if written else "Nothing is new"
    emit(
        {"written": [] if dry_run else written, "planned": written, "todo": plan.todo},
        as_json=as_json,
        render=lambda: text,
    )
    for item in plan.todo:
        say(f"  to do: {item}")

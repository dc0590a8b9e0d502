"""Installing into a project, upgrading what is there, and taking it away again."""

from pathlib import Path
from typing import Annotated

import typer

from crossfade import __version__
from crossfade.cli.options import AsJson, Yes
from crossfade.cli.output import confirm, emit, say, show
from crossfade.core.errors import ConfigError
from crossfade.project import resources
from crossfade.project.install import InstallPlan, apply_install, differences, plan_install
from crossfade.project.uninstall import apply_uninstall, plan_uninstall

Into = Annotated[
    Path, typer.Option("--into", envvar="CROSSFADE_INTO", help="Folder that holds supabase/.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
EditConfig = Annotated[
    bool,
    typer.Option("--edit-config", help="Also edit supabase/config.toml; comments stay."),
]
_HERE = Path()


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("install")(install)
    app.command("upgrade")(upgrade)
    app.command("uninstall")(uninstall)


def install(
    into: Into = _HERE,
    check: Annotated[
        bool, typer.Option("--check", help="For CI: write nothing, exit code 3 unless current.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what its owner changed in our files.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring back our files that were edited or removed.")
    ] = False,
    edit_config: EditConfig = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Copy the migration and the shared edge code into a project. Touches no database.

    Running it again copies only what is new; files that were edited or removed since stay so.

    Example: crossfade install --into ../my-project --yes
    """
    plan = _plan(into, restore=restore)
    if diff:
        show(
            differences(
                plan, migrations=resources.migrations_dir(), functions=resources.functions_dir()
            )
        )
        return
    _report(plan)
    writes = not (dry_run or check)
    if writes:
        _apply(plan, edit_config=edit_config, yes=yes, command=f"crossfade install --into {into}")
    _emit(plan, written=writes, edit_config=edit_config, as_json=as_json)
    if check and not plan.is_current:
        raise typer.Exit(3)


def upgrade(
    into: Into = _HERE, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Bring a project from the crossfade that installed into it to this one.

    A release is one migration with the whole schema, so this adds one. Then run: supabase db push

    Example: crossfade upgrade --into ../my-project --yes
    """
    plan = _plan(into)
    if plan.before is None:
        raise ConfigError(
            f'crossfade is not installed in "{into}"', hint=f"Run: crossfade install --into {into}"
        )
    say(f"from crossfade {plan.before} to {__version__}")
    _report(plan)
    if not dry_run:
        _apply(plan, edit_config=False, yes=yes, command=f"crossfade upgrade --into {into}")
    _emit(plan, written=not dry_run, edit_config=False, as_json=as_json)


def _plan(into: Path, *, restore: bool = False) -> InstallPlan:
    return plan_install(
        into,
        migrations=resources.migrations_dir(),
        functions=resources.functions_dir(),
        restore=restore,
    )


def _report(plan: InstallPlan) -> None:
    for name in plan.edited:
        say(f"  kept {name}: it was edited since it was installed (crossfade install --diff)")
    for name in plan.removed:
        say(f"  missing {name}: it was removed; crossfade install --restore brings it back")


def _apply(plan: InstallPlan, *, edit_config: bool, yes: bool, command: str) -> None:
    changes = [f"write {copy.target}" for copy in plan.copies]
    if edit_config and plan.schemas:
        changes.append(f"edit supabase/config.toml: expose {', '.join(plan.schemas)}")
    if changes:
        confirm(changes, yes=yes, command=command)
    apply_install(plan, edit_config=edit_config)


def _emit(plan: InstallPlan, *, written: bool, edit_config: bool, as_json: bool) -> None:
    planned = [copy.target for copy in plan.copies]
    todo = plan.todo(config_edited=edit_config and written)
    word = "Wrote" if written else "Would write"
    text = f"{word} {len(planned)} files" if planned else "Nothing is new"
    emit(
        {
            "version": __version__,
            "before": plan.before,
            "is_current": plan.is_current,
            "written": planned if written else [],
            "planned": planned,
            "edited": plan.edited,
            "removed": plan.removed,
            "todo": todo,
        },
        as_json=as_json,
        render=lambda: text,
    )
    for item in todo:
        say(f"  to do: {item}")


def uninstall(
    into: Into = _HERE,
    not_pushed: Annotated[
        bool,
        typer.Option(
            "--not-pushed", help="No database has seen the migrations: remove them instead."
        ),
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Only print the SQL, for psql or the SQL editor.")
    ] = False,
    edit_config: EditConfig = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take crossfade out of a project. Your tables, rows, functions and converters stay.

    Removes the shared edge code and the record, and adds a migration that drops crossfade's schemas
    and triggers when it is pushed.

    Example: crossfade uninstall --into ../my-project --yes
    """
    script = resources.resource("sql/uninstall.sql")
    if sql:
        show(script.read_text(encoding="utf-8"))
        return
    plan = plan_uninstall(into, sql=script, pushed=not not_pushed)
    for name in plan.kept:
        say(f"  kept {name}: it was edited since it was installed")
    if not dry_run:
        changes = [f"remove {name}" for name in plan.removals]
        if plan.migration:
            changes.append(f"write {plan.migration}: drops crossfade's schemas and triggers")
        if edit_config and plan.schemas:
            changes.append("edit supabase/config.toml: expose crossfade no longer")
        confirm(changes, yes=yes, command=f"crossfade uninstall --into {into}")
        apply_uninstall(plan, edit_config=edit_config)
    todo = plan.todo(config_edited=edit_config and not dry_run)
    emit(
        {
            "migration": plan.migration,
            "removed": plan.removals,
            "kept": plan.kept,
            "todo": todo,
        },
        as_json=as_json,
        render=lambda: f"{'Would remove' if dry_run else 'Removed'} {len(plan.removals)} files",
    )
    for item in todo:
        say(f"  to do: {item}")

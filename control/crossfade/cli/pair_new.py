"""``crossfade pair new``: write a pair down from the project's catalog."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.install import Into
from crossfade.cli.options import AsJson, PairName, Yes
from crossfade.cli.output import confirm, emit, say, show
from crossfade.cli.session import gateway
from crossfade.core.errors import InvalidValueError
from crossfade.pairs.files import masked, new_pair
from crossfade.pairs.keys import carried_key
from crossfade.project import resources
from crossfade.project.folder import ProjectFolder, open_project

_HERE = Path()


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("new")(new)
    app.command("example")(example)


def new(
    context: typer.Context,
    pair: PairName,
    v1: Annotated[str, typer.Option(help="V1 table, as schema.table.", show_default=False)],
    v2: Annotated[str | None, typer.Option(help="V2 table; one is proposed when left out.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="V1 column that carries V2's key; else its primary key. Repeatable."),
    ] = None,
    into: Into = _HERE,
    samples: Annotated[
        int, typer.Option(min=1, max=100, help="Rows for the tests, from each table.")
    ] = 5,
    keep_values: Annotated[
        bool,
        typer.Option("--keep-values", help="Do not mask free text in the sample rows."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Write the files of a pair: SQL with converters to fill in, its registration, tests.

    Looks at the tables through the project's catalog and says what it could not decide. The tests
    hold sample rows, whose free text is masked. Touches no database.

    Example: crossfade pair new orders --v1 public.orders --into ../my-project
    """
    project = open_project(into)
    _refuse_existing(project, pair)
    opened = gateway(context)
    one = opened.describe_table(v1, sample_rows=samples)
    two = opened.describe_table(v2, sample_rows=samples) if v2 else None
    if not keep_values:
        one = replace(one, sample=masked(one.sample, one))
        two = replace(two, sample=masked(two.sample, two)) if two else None
    keyed = tuple(key or carried_key(one, two))
    keys = two.key if two and two.key != (keyed or one.key) else ()
    # By the names that the catalog gave: register_pair gets these as well.
    judged = opened.judge_pair(
        pair, v1=one.table, v2=two.table if two else None, v2_key=keys, key=keyed
    )
    stamp = project.next_stamp(datetime.now(UTC))
    made = new_pair(pair, one, two, stamp=stamp, problems=judged.problems, key=keyed)
    confirm(
        [f"write {name}" for name in made.files],
        yes=yes,
        command=f"crossfade pair new {pair}",
    )
    for name, text in made.files.items():
        project.write(name, text.encode())
    emit(
        {"pair": pair, "v2": made.v2, "written": list(made.files), "undecided": made.undecided},
        as_json=as_json,
        render=lambda: "\n".join(made.files),
    )
    for warning in judged.warnings:
        say(f"Warning: {warning}")
    for item in made.undecided:
        say(f"  to decide: {item}")
    for item in made.edge:
        say(f"  to decide in convert.ts: {item}: SQL looks it up, the edge has to fetch it")
    first = next(iter(made.files))
    if not two:
        say(f"  to do: make {made.v2} in {first} what V2 is to be, and the converters with it")
    if made.undecided:
        say(f"  to do: decide what {first} asks, then delete the block at its top")
    say("  to do: supabase db push, then: crossfade pair check " + pair)


def example(
    name: Annotated[
        str | None, typer.Argument(help="One of the worked pairs; lists them when left out.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Write it as a migration of this project, else print it."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Print a worked pair, complete in one file, or put it into a project as a migration.

    Example: crossfade pair example chat_messages
    """
    found = {path.stem: path for path in sorted(resources.pairs_dir().glob("*.sql"))}
    if name is None:
        show("\n".join(found))
        return
    if name not in found:
        raise InvalidValueError(
            f'There is no worked pair "{name}"', hint=f"There are: {', '.join(found)}"
        )
    text = found[name].read_text(encoding="utf-8")
    if into is None:
        show(text)
        return
    project = open_project(into)
    _refuse_existing(project, name)
    target = f"supabase/migrations/{project.next_stamp(datetime.now(UTC))}_{name}_pair.sql"
    confirm([f"write {target}"], yes=yes, command=f"crossfade pair example {name}")
    project.write(target, text.encode())
    show(target)


def _refuse_existing(project: ProjectFolder, pair: str) -> None:
    found = [name for name in project.migration_names() if name[15:] == f"{pair}_pair.sql"]
    if found:
        raise InvalidValueError(
            f'Pair "{pair}" has a file already: supabase/migrations/{found[0]}',
            hint="Edit that one, or remove it first if no database has seen it",
        )
    folder = project.path / "supabase" / "functions" / "_shared" / pair
    if folder.exists():
        raise InvalidValueError(
            f"supabase/functions/_shared/{pair} exists already", hint="Choose another pair name"
        )

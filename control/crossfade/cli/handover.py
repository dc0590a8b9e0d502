"""Handing over to V2 what depends on V1."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.migration_files import write_migrations
from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName
from crossfade.cli.output import emit, say, show, table
from crossfade.cli.session import gateway
from crossfade.core.errors import ConfigError, InvalidValueError
from crossfade.pairs.catalog import HandedOver, Handover

app = typer.Typer(no_args_is_help=True, help="What depends on V1, before it becomes an archive.")


@app.callback()
def _group() -> None:
    """Keep ``plan`` a command of its own: alone it would become the group itself."""


@app.command("plan")
def plan(
    context: typer.Context,
    pair: PairName,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the SQL into this file, for psql.")
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option("--project", "--into", help="Write migrations into this project."),
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what depends on V1, and write the SQL that lets it depend on V2.

    Changes no database. What is not provably right stands in the SQL as comments that say why.
    Foreign keys check the rows there are in a file of its own, for which no writer waits.

    Example: crossfade handover plan orders --project ../my-project
    """
    if out and project:
        raise InvalidValueError("Both --out and --project are given", hint="Leave one of them out")
    opened = gateway(context)
    find_pair(opened, pair)
    found = opened.handover_plan(pair)
    texts = [text for text in (found.sql, found.check_sql) if text]
    written: list[str] = []
    if out and texts:
        written = _write_file(out, "\n".join(texts))
    if project and texts:
        # No name of a pair holds the sign before the last word.
        names = (f"handover_{pair}", f"handover_{pair}-check")
        written = write_migrations(project, dict(zip(names, texts, strict=False)))
    if sql and not as_json:
        show("\n".join(texts).rstrip("\n"))
        return
    emit({**asdict(found), "written": written}, as_json=as_json, render=lambda: _render(found))
    for name in written:
        say(f"  to do: review {name}, then apply it")


def _write_file(path: Path, text: str) -> list[str]:
    try:
        if path.exists():
            if path.read_text(encoding="utf-8") != text:
                raise InvalidValueError(
                    f'"{path}" holds something else', hint="Name a file that does not exist"
                )
            say(f"{path} holds this already; nothing to do")
            return []
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'Cannot write "{path}": {error}', hint="Name another file") from error
    return [str(path)]


def _render(found: Handover) -> str:
    if not found.objects:
        return f"Nothing depends on {found.v1_table or 'V1'}"
    return table(
        ("KIND", "OBJECT", "OWNER", "WHAT BREAKS", "IN THE SQL"),
        ((i.kind, i.object, i.owner, i.breaks, _outcome(i)) for i in found.objects),
    )


def _outcome(item: HandedOver) -> str:
    if item.is_repointed:
        return "re-pointed"
    if item.is_ignored:
        return "no: ignored"
    columns = f" ({', '.join(item.columns)})" if item.columns else ""
    return f"to decide: {item.reason}{columns}"

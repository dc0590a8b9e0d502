"""The state of everything on one page."""

import typer

from crossfade.cli.backfill import runs_table
from crossfade.cli.options import AsJson
from crossfade.cli.output import cell, emit, table
from crossfade.cli.session import session
from crossfade.status import Status, read_status


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show pairs, kill switches and runs. Exit code 3 when something needs a person.

    Example: crossfade status
    """
    here = session(context)
    found = read_status(here.gateway(), source=here.source)
    emit(found, as_json=as_json, render=lambda: _text(found))
    if found.troubles:
        raise typer.Exit(3)


def _text(found: Status) -> str:
    parts = [f"{found.url} ({found.source}), flags version {found.flags_version}"]
    parts.append(
        table(
            ("PAIR", "STAGE", "ON V2", "MIRROR", "LAST CLEAN VERIFY", "BLOCKERS"),
            (
                (
                    pair.name,
                    pair.stage,
                    f"{cell(pair.percentage)} %",
                    pair.mirror,
                    pair.last_clean_verify_at,
                    len(pair.blockers),
                )
                for pair in found.pairs
            ),
        )
        if found.pairs
        else "No pair is registered yet. See: crossfade pair register --help"
    )
    runs = tuple(run for pair in found.pairs for run in pair.runs)
    if runs:
        parts.append(runs_table(runs))
    if found.troubles:
        parts.append("\n".join(f"! {trouble}" for trouble in found.troubles))
    return "\n\n".join(parts)

"""``crossfade flags bundle``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.output import say, to_json
from crossfade.cli.session import gateway
from crossfade.core.errors import InvalidValueError
from crossfade.flags.bundle import FILE_NAME, bundle

Folders = Annotated[
    list[Path],
    typer.Argument(help="Folders of edge functions, each with an index.ts.", show_default=False),
]


def bundle_flags(context: typer.Context, folders: Folders) -> None:
    """Write the flags into edge functions, for a start while the database is away.

    Deploy the functions afterwards. A function that has never read the database answers from this
    file with reason STALE: what can be killed is off, and V1 serves unless the pair was complete.
    The file holds the ids of the lists, as the database does.

    Example: crossfade flags bundle supabase/functions/chat
    """
    for folder in folders:
        if not (folder / "index.ts").is_file():
            raise InvalidValueError(
                f'"{folder}" is not an edge function: it has no index.ts',
                hint="Name a folder such as supabase/functions/chat",
            )
    state = gateway(context).read_flags()
    text = to_json(bundle(state)) + "\n"
    for folder in folders:
        target = folder / FILE_NAME
        # Renamed into place: a deploy at this moment must not take half a file.
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(target)
        say(f"{target} written, version {state.flags_version}")

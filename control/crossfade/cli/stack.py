"""``crossfade up`` and ``crossfade down``: the embedded Supabase."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossfade.local import LocalStack, StackInfo, running_stack, stop_stack
from crossfade.project import resources

DEFAULT_FUNCTION = "chat"
DEFAULT_PAIR = "chat_messages"
# What the example function keeps besides the pair.
FEATURES = "chat_features"
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="CROSSFADE_DATA_DIR", help="Folder of the stack."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_DEFAULT_DATA_DIR = Path(".crossfade")


def up(
    data_dir: DataDir = _DEFAULT_DATA_DIR,
    as_json: AsJson = False,
    isolates: Annotated[int, typer.Option(min=1, help="Processes of each edge function.")] = 2,
    function: Annotated[
        list[str] | None,
        typer.Option(help="Edge function to serve; repeat it for more.", show_default="chat"),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop the stack on Ctrl-C.")
    ] = False,
) -> None:
    """Start the embedded Supabase, ready when this returns.

    Starting it again while it runs prints the same answer.
    """
    talk = Console(stderr=True, highlight=False)
    info = running_stack(data_dir)
    if info is None:
        stack = project_stack(data_dir, isolates, talk, functions=function)
        info = stack.start(attached=foreground)
    try:
        _print_info(info, as_json=as_json)
        if foreground:
            _stay(data_dir, talk)
    except KeyboardInterrupt:
        if not foreground:
            raise
        stop_stack(data_dir)
        talk.print("stopped")


def down(data_dir: DataDir = _DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Stop the embedded Supabase; its data stays in the folder."""
    stopped = stop_stack(data_dir)
    if as_json:
        typer.echo(json.dumps({"stopped": stopped, "data_dir": str(data_dir.resolve())}))
    else:
        talk = Console(stderr=True, highlight=False)
        talk.print("stopped" if stopped else f"no stack runs in {data_dir.resolve()}")


def find_stack(data_dir: Path | None = None) -> StackInfo | None:
    """Return the stack that runs in the folder, for commands without a URL of their own.

    Args:
        data_dir: the folder; None means ``.crossfade`` here.
    """
    return running_stack(data_dir if data_dir is not None else _DEFAULT_DATA_DIR)


def project_stack(
    data_dir: Path, isolates: int, talk: Console, *, functions: Sequence[str] | None = None
) -> LocalStack:
    """Describe the stack of this project: the worked pair and the chat function where they are.

    Args:
        data_dir: its folder.
        isolates: processes of each function.
        talk: told of progress.
        functions: names of other functions to serve instead.
    """
    has_chat = (resources.functions_dir() / DEFAULT_FUNCTION / "index.ts").exists()
    has_pair = (resources.pairs_dir() / f"{DEFAULT_PAIR}.sql").exists()
    return LocalStack(
        data_dir,
        functions=functions or ((DEFAULT_FUNCTION,) if has_chat else ()),
        isolates=isolates,
        pairs=(DEFAULT_PAIR, FEATURES) if has_pair else (),
        progress=lambda text: talk.print(text, style="dim"),
    )


def _print_info(info: StackInfo, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(info.as_dict()))
        return
    for name, value in info.as_dict().items():
        typer.echo(f"{name:<16} {value}")


def _stay(data_dir: Path, talk: Console) -> None:
    talk.print("running; Ctrl-C stops it")
    while running_stack(data_dir) is not None:
        time.sleep(0.5)

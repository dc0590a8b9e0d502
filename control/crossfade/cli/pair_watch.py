"""Pairs that are mirrored: pausing the mirror, comparing who may see what."""

from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, table, to_json
from crossfade.cli.session import gateway
from crossfade.core.contract import MirrorMode
from crossfade.core.errors import InvalidValueError
from crossfade.pairs.model import RlsCheck


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``crossfade pair``."""
    app.command("mirror")(mirror)
    app.command("check-rls")(check_rls)


def mirror(
    context: typer.Context,
    pair: PairName,
    mode: Annotated[
        MirrorMode,
        typer.Argument(help="log_only only notes changed keys; both mirrors.", show_default=False),
    ],
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Pause the mirror of a pair (log_only) for a database under pressure, or resume it (both).

    Only in dualwrite and shadow, where no user reads what is mirrored. Nothing is lost: the changed
    keys are open failures until "crossfade repair" brings their rows over.

    Example: crossfade pair mirror chat_messages log_only --reason "disk is full" --yes
    """
    opened = gateway(context)
    found = find_pair(opened, pair)
    if found.mirror == mode:
        say(f"The mirror of {pair} is {mode}; nothing to do")
        return
    if not (reason or "").strip():
        raise InvalidValueError(
            f'Cannot set the mirror of "{pair}" without a reason', hint="Add --reason"
        )
    confirm(
        [f"set the mirror of {pair}: {found.mirror} -> {mode}"],
        yes=yes,
        command=f"crossfade pair mirror {pair} {mode}",
    )
    done = opened.set_mirror(pair, mode, reason=str(reason))
    text = f"The mirror of {pair} is {done.after}"
    emit(done, as_json=as_json, render=lambda: cell(text))
    if mode is MirrorMode.BOTH:
        say(f"Bring over what was noted meanwhile: crossfade repair {pair}")


def check_rls(
    context: typer.Context,
    pair: PairName,
    user: Annotated[
        list[str], typer.Option(help="Id of a user, as in auth.users.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Ask the policies of both tables, as these users, which rows they may see and write.

    Also asked as somebody who has not signed in. Exit code 3 when a row may be seen, inserted,
    updated ("update to": left so) or deleted in one table only; then stage live is blocked until a
    later check finds no difference. Reads both tables once a user.

    Example: crossfade pair check-rls chat_messages --user 5b1f9c0e-8a44-4d0b-9d0a-2f4f0f3f7a11
    """
    opened = gateway(context)
    find_pair(opened, pair)
    found = opened.check_rls(pair, user_ids=user)
    emit(found, as_json=as_json, render=lambda: _report(found))
    if found.differences:
        raise typer.Exit(3)


def _report(found: RlsCheck) -> str:
    if not found.differences:
        return f"{found.users} users may see and write the same rows in both tables"
    rows = table(
        ("USER", "MAY", "ONLY IN", "KEY"),
        (
            (
                item.user_id,
                item.command,
                f"V{item.visible_in}",
                to_json(item.key).replace("\n", ""),
            )
            for item in found.differences
        ),
    )
    return f"{len(found.differences)} differences between the two tables\n{rows}"

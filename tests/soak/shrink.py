"""Look for a smaller round that still fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crossfade.local.postgres import PostgresServer

from .driver import Options, Result, Round

_TRIES = 3  # threads make a round fail by chance only


def _smaller(options: Options) -> Iterator[Options]:
    if options.crashes:
        yield replace(options, crashes=0)
    if options.kills:
        yield replace(options, kills=0)
    if options.truncate:
        yield replace(options, truncate=0)
    if options.transactions > 20:
        yield replace(options, transactions=options.transactions // 2)
    if options.sessions > 2:
        yield replace(options, sessions=options.sessions - 1)


def shrink(server: PostgresServer, result: Result, *, rounds: int = 40) -> Result:
    """Return the smallest failing round that was found within the given number of rounds."""
    tried = 0
    progress = True
    while progress and tried < rounds:
        progress = False
        for options in _smaller(result.options):
            for _ in range(_TRIES):
                tried += 1
                again = Round(server, options).run()
                if again.failed:
                    result, progress = again, True
                    break
            if progress or tried >= rounds:
                break
    return result

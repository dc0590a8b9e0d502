"""Break one rule of the engine at a time and see how long the soak takes to notice.

python -m tests.soak.mutations                 every mutation, each for at most ten minutes
python -m tests.soak.mutations --seconds 60 "cleared mark"
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass, replace

from .__main__ import servers
from .client import Connection
from .rounds import Rounds
from .single import no_mutation

_FUNCTIONS = """
select p.oid::regprocedure::text, pg_get_functiondef(p.oid)
from pg_proc p
where p.pronamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace)
  and p.prokind = 'f' and p.proname ~ %s
order by 1
"""


class NotAppliedError(Exception):
    """The text to replace is not there: the mutation would prove nothing."""


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        function: regular expression for names of functions in crossfade and crossfade_private.
        text: regular expression for what is replaced in every one of them.
        when: ``before`` the pair is registered (templates), or ``after`` (generated functions).
        sql: run as well, after the replacement.
        crowds: share of rounds with several sessions: one session sees most of them sooner.
        kind: what the rounds are about.
    """

    name: str
    function: str = ""
    text: str = ""
    replacement: str = ""
    when: str = "after"
    sql: str = ""
    crowds: float = 0.1
    kind: str = "mirror"

    def apply(self, connection: Connection, when: str) -> None:
        """Replace the text.

        Raises:
            NotAppliedError: it is in none of the functions.
        """
        if when != self.when:
            return
        if self.function:
            changed = 0
            for _name, source in connection.execute(
                _FUNCTIONS.encode(), [self.function]
            ).fetchall():
                mutated, count = re.subn(self.text, self.replacement, source, flags=re.S)
                if count:
                    connection.execute(mutated.encode())
                    changed += count
            if not changed:
                raise NotAppliedError(f"{self.name}: no function {self.function} has {self.text}")
        if self.sql:
            connection.execute(self.sql.encode())


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "recorded deadlock",
        "^is_transient$",
        r"select left\(error_code, 2\) in .*?;",
        "select false;",
        when="before",
        crowds=1.0,
    ),
    Mutation(
        "cleared mark",
        "^note_nested$",
        r"perform set_config\(mark, v_statement, true\);",
        "perform set_config(mark, '', true);",
        when="before",
    ),
    Mutation(
        "whole rows on update",
        "_pieces$",
        r"\b[ed]\.edited\b",
        "'true'",
        when="before",
    ),
    Mutation(
        "insert that updates a counterpart",
        "^is_written_beside$",
        r"select pg_trigger_depth.*?;",
        "select true;",
        when="before",
    ),
    Mutation(
        "nested archive write accepted",
        "^refuse_archived_write$",
        r"or pg_trigger_depth\(\) > 1\s+and crossfade_private\.is_own_write\([^;]*? 2\) then",
        "or pg_trigger_depth() > 1 then",
        when="before",
    ),
    Mutation(
        "key move without merge",
        "^mirror_notes_v[12]_move$",
        r"update (public\.\w+) cf_t set [^;]*? where ([^;]*?);(\s+if not found)",
        r"delete from \1 cf_t where \2;\3",
    ),
    Mutation(
        "guard by a session setting",
        "^is_engine_write$",
        r"select exists \(.*?\);",
        "select coalesce(current_setting("
        "'crossfade.mark_' || is_engine_write.pair, true), '') = 'engine';",
        when="before",
    ),
    Mutation(
        "replica-mode firing",
        sql="; ".join(
            f"alter table public.{table} enable always trigger crossfade_mirror_{operation}"
            for table in ("notes", "cards")
            for operation in ("insert", "update", "delete", "truncate")
        ),
    ),
    Mutation(
        "view without its guard",
        "^view_write_text$",
        r"if not \(select \{is_own_t\} [^;]*? then\s+\{raise_moved\}\s+end if;",
        "",
        when="before",
        crowds=1.0,
        kind="retired",
    ),
    Mutation(
        "children before their parents",
        "^uncopied_parents$",
        r"where case direction",
        "where false and case direction",
        when="before",
        crowds=0,
        kind="group",
    ),
    Mutation(
        "archive that edits reach by column",
        "^state_of$",
        "'whole'",
        "'on'",
        when="before",
        crowds=1.0,
        kind="retired",
    ),
    Mutation(
        "new partition without its triggers",
        "^mirror_notes_v2_late$",
        r"if cf_state in \('off', 'archive'\) then",
        "if true then",
        crowds=0,
        kind="partitions",
    ),
    Mutation(
        "removed partition that V1 keeps",
        "^remove_counterparts$",
        r"v_state in \('on', 'whole'\)",
        "false",
        when="before",
        crowds=0,
        kind="partitions",
    ),
    Mutation(
        "version 2 right after a time in off",
        "^leader$",
        r"select case .*?;",
        "select 2;",
        when="before",
        crowds=0,
        kind="off",
    ),
    Mutation(
        "carried children before their parents",
        "^uncopied_parents$",
        r"where case direction",
        "where false and case direction",
        when="before",
        crowds=0,
        kind="carried",
    ),
)


def hunt(rounds: Rounds, seed: int, seconds: float) -> tuple[float, int, str]:
    """Run rounds until one fails that does not fail with the engine as it is.

    Returns:
        Seconds, the round's seed and what was wrong, or nothing.
    """
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        found = rounds.run(seed)
        sound = replace(rounds, mutate=no_mutation)
        if found.outcome.problems and not sound.run(seed).outcome.problems:
            problem = found.outcome.problems[0]
            return time.monotonic() - start, seed, f"{problem.kind}: {problem.text[:100]}"
        seed += 1
    return seconds, seed, ""


def main() -> int:
    """Hunt every mutation; return 1 when one was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="some of them")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", type=int, default=18, choices=(15, 16, 18))
    given = parser.parse_args()
    unknown = set(given.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    missed = 0
    with servers(given.version) as (server, spare):
        for mutation in MUTATIONS:
            if given.names and mutation.name not in given.names:
                continue
            rounds = Rounds(
                server,
                given.version,
                spare,
                mutate=mutation.apply,
                crowds=mutation.crowds,
                kind=mutation.kind,
            )
            seconds, seed, what = hunt(rounds, given.seed, given.seconds)
            print(f"{mutation.name:32} {seconds:6.1f} s  seed {seed}  {what or 'NOT FOUND'}")
            sys.stdout.flush()
            missed += not what
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

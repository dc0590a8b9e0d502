"""After a round: look, finish what is under way, drain what is open, look again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .client import Client, Connection
from .engine import Operator, active_run, batch, swap_back, verify_pass, way_back
from .judge import Excuses, Problem, foreign, judge
from .model import replay
from .peek import View, peek
from .shared import Shared

_STATE = """
select (select coalesce(bool_and(p.stage in ('complete', 'retired')), false)
    from crossfade.pairs p),
  (select coalesce(bool_and(p.stage = 'retired'), false) from crossfade.pairs p),
  (select p.last_backfill_at is not null from crossfade.pairs p)
"""

_HISTORY = """
with image as (
  select a.seq, a.side, r ->> 'birth' as birth, (
    select string_agg(r ->> k, ' ' order by n)
    from unnest(array['space', 'id', 'room', 'item', 'card_id']) with ordinality u(k, n)) as key
  from soak.audit a cross join lateral unnest(array[a.old, a.new]) r where a.side < 3
)
select concat_ws(' ', '--', a.seq, a.transaction, a.source, 'side', a.side, a.op, a.who,
  a.old, '->', a.new, 'by', a.statement)
from soak.audit a
where a.seq in (
  select i.seq from image i
  where i.birth = any (%s) or i.key in (select o.key from image o where o.birth = any (%s)))
order by a.seq
"""

_OPERATED = """
select line from (
  select a.at, concat_ws(' ', '--', a.at, a.action, a.reason, a.after) from crossfade.audit a
  where a.object = 'notes'
  union all
  select f.at, concat_ws(' ', '--', f.at, 'failure of side', f.written_side, f.operation,
    f.error_code, f.key, f.moved_to, f.message, f.resolved_at, f.resolution)
  from crossfade.mirror_failures f
  where exists (
    select from soak.audit a cross join lateral unnest(array[a.old, a.new]) r
    where r ->> 'birth' = any (%s)
      and (r ->> 'id' = f.key ->> 'id' or r ->> 'item' = f.key ->> 'id'))
) o(at, line)
order by o.at
"""


def look(shared: Shared, *, final: bool) -> list[Problem]:
    """Judge everything that the round did; open failures, and nothing else, are excuses."""
    client = Client(shared.place.connect, returning=False)
    view: View = peek(client)
    archived, retired, copied = client.send(_STATE)[0]
    client.close()
    now = Excuses(
        copied=final or bool(copied),
        archived=not final and bool(archived),
        retired=not final and bool(retired),
    )
    excuses = view.excuses(shared.world, now)
    found = judge(shared.world, replay(shared.world, view.entries, {}), view.tables, excuses)
    if final:
        shared.counts["failures recorded"] += len(view.failures)
        shared.counts["writes judged"] += len(view.entries)
        found += foreign(view.entries)
        found += view.wrong_failures()
    return found


def history(shared: Shared, problems: Sequence[Problem]) -> list[str]:
    """Return what was written to the rows that the first problems name, and under their keys.

    After that what the operator did, and what became of the failures of those keys.
    """
    births = [problem.text.split(": ")[0] for problem in problems[:3]]
    client = Client(shared.place.connect, returning=False)
    lines = [*client.send(_HISTORY, (births, births)), *client.send(_OPERATED, (births,))]
    client.close()
    return [line for (line,) in lines]


def settle(shared: Shared) -> None:
    """Bring the pair back from complete, finish the backfill, repair until nothing is open."""
    operator = Operator(shared)
    if not any(swap_back(operator) for _ in range(10)):
        shared.problems.append("no way back from retired")
    complete = operator.call("select stage from crossfade.pairs") == "complete"
    if complete and not any(way_back(operator, shared) for _ in range(10)):
        shared.problems.append("no way back from complete")
    paused = "select mirror = 'log_only' from crossfade_private.mirror_state"
    if operator.call(paused):
        operator.call("select crossfade.set_mirror('notes', 'both', 'soak')")
    # What V2 refused can be repaired only when it does not refuse any more.
    operator.call("alter table public.cards drop constraint if exists amount_is_small")
    _finish_backfill(operator, shared)
    answer: dict[str, Any] = {"remaining": 1, "repaired": 1}
    while answer["remaining"] and answer["repaired"]:
        answer = operator.call("select crossfade.repair('notes', 5000, 'soak')") or answer
    # A foreign key or unique value of the other table may go on refusing a row.
    left = operator.call(
        "select count(*) from crossfade.mirror_failures "
        "where resolved_at is null and error_code not like '23%'"
    )
    if left:
        shared.problems.append(f"repair does not drain: {answer}, {left} without a reason")
    operator.close()


def _finish_backfill(operator: Operator, shared: Shared) -> None:
    run = operator.call(
        "select id from crossfade.runs where kind = 'backfill' and state = 'paused'"
    )
    if run is not None:
        operator.call(f"select crossfade.control_run({run}, 'resume', 'soak')")
    if operator.call("select last_backfill_at is null from crossfade.pairs"):
        operator.call("select crossfade.start_backfill('notes')")
    deadline = time.monotonic() + 30
    while active_run(operator, "backfill") is not None and time.monotonic() < deadline:
        batch(operator, "backfill")
    if active_run(operator, "backfill") is not None:
        shared.problems.append("the backfill does not finish")


def final_verify(shared: Shared) -> None:
    """Let the engine compare as well: it must find nothing that the soak did not."""
    operator = Operator(shared)
    operator.call(
        "update crossfade.runs set state = 'cancelled' where kind = 'verify' "
        "and state in ('running', 'paused')"
    )
    found = verify_pass(operator, shared)
    left = operator.call("select count(*) from crossfade.mirror_failures where resolved_at is null")
    if found and not left:
        shared.problems.append(f"the engine's own verify finds {found} mismatches")
    operator.close()


def lost_commits(db: Connection, acknowledged: set[str], undone: set[str]) -> list[Problem]:
    """Compare what clients were told with what the server kept."""
    kept = {row[0] for row in db.execute("select token from soak.txns")}
    return [
        *(Problem("lost edit", f"commit {token} is gone") for token in acknowledged - kept),
        *(Problem("other problem", f"{token} was rolled back") for token in undone & kept),
    ]

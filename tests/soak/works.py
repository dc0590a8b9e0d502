"""What the engine's operator does during a round, and what it changes for the judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .judge import Excuses

_SWITCH = "(select min(name) from crossfade.kill_switches where fences and name like 'disable_v2%')"


# The owner knows what is left of V1: the archive is tried with triggers that still write it.
IGNORE_SQL = """
select crossfade.ignore_dependents('notes', n.names, 'soak')
from crossfade.pairs p
cross join lateral (
  select array(select d.object from crossfade_private.v1_dependents(p) d
    union select t.name from crossfade_private.own_triggers(p) t where t.is_after)
) n(names)
where n.names <> '{}'
"""
# Triggers of V1 go on in the archive only, and the policies mean the same in other words.
IGNORE_BOUND_SQL = """
select crossfade.ignore_dependents('notes', n.names, 'soak')
from crossfade.pairs p
cross join lateral (
  select array(
    select b.name from crossfade_private.v1_bound_objects(p) b
    union
    select format('policies of %s', p.v1_table)
    where exists (select from crossfade_private.policy_blockers(p)))
) n(names)
where p.stage = 'complete' and n.names <> '{}'
"""


def stage_sql(stage: str) -> str:
    return f"select crossfade.set_stage('notes', '{stage}', 'soak', true)"


def mirror_sql(mode: str) -> str:
    return f"select crossfade.set_mirror('notes', '{mode}', 'soak')"


WORKS = {
    "off": stage_sql("off"),
    "dualwrite": stage_sql("dualwrite"),
    "shadow": stage_sql("shadow"),
    "live": stage_sql("live"),
    "everybody": """select crossfade.set_cohort('notes', '{"percentage": 100}', 'soak')""",
    "rampdown": stage_sql("rampdown"),
    "complete": f"{IGNORE_SQL};\n{stage_sql('complete')}",
    "retired": f"{IGNORE_BOUND_SQL};\n{stage_sql('retired')}",
    "swap back": stage_sql("complete"),
    "backfill": "select soak.backfill('v1_to_v2')",
    "back": "select soak.backfill('v2_to_v1')",
    "verify": "select soak.verify()",
    "repair": "select crossfade.repair('notes', 5000, 'soak')",
    # What V2 has deleted while V1 was an archive is still there.
    "clear": "select crossfade.repair('notes', 5000, 'soak', 'delete')",
    "log_only": mirror_sql("log_only"),
    "both": mirror_sql("both"),
    "engage": f"select crossfade.engage_kill_switch({_SWITCH}, 'soak')",
    "release": f"select crossfade.release_kill_switch({_SWITCH}, 'soak')",
}
# Only where V2 has partitions.
PARTITION_WORKS = {
    "attach": "select soak.attach_partition('')",
    "attach rows": "select soak.attach_partition('O:attached/1')",
    "detach": "select soak.remove_partition('public.cards_m3', 'detach')",
    "drop": "select soak.remove_partition('public.cards_m3', 'drop')",
    "drop the new": "select soak.remove_partition('public.cards_m5', 'drop')",
    "drop a sub-partition": "select soak.remove_partition('public.cards_m2a', 'drop')",
    "truncate a partition": "select soak.remove_partition('public.cards_m2', 'truncate')",
    "refresh": "select crossfade.refresh_pair('notes')",
}
# What is there already, or is not there any more.
TWICE = ("42P07", "42P01")
# Not SQL: the runner does them itself.
CRASH, KILL, RESTORE = "crash", "kill", "restore"

_EFFECTS: dict[str, Callable[[Excuses], Excuses]] = {
    "dualwrite": lambda now: replace(now, mirrored=True),
    "off": lambda now: replace(now, alone=True),
    "clear": lambda now: replace(now, alone=False),
    "complete": lambda now: replace(now, archived=True),
    "retired": lambda now: replace(now, retired=True),
    "swap back": lambda now: replace(now, archived=True, retired=False),
    "rampdown": lambda now: replace(now, archived=False),
    "attach": lambda now: replace(now, late=True),
    "attach rows": lambda now: replace(now, attached=frozenset({"O:attached/1"}), late=True),
    "drop the new": lambda now: replace(now, late=False),
    "refresh": lambda now: replace(now, late=False),
    "back": lambda now: replace(now, attached=frozenset()),
    "backfill": lambda now: replace(now, copied=True),
}


def after(work: str, answer: object, now: Excuses) -> Excuses:
    """Return what may differ after a work that the engine did not refuse."""
    if work in ("backfill", "back") and answer != "finished":
        return now
    return _EFFECTS[work](now) if work in _EFFECTS else now

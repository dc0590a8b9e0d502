"""What the engine's operator does during a round, and what it changes for the judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .judge import Excuses

_SWITCH = "(select min(name) from crossfade.kill_switches where fences and name like 'disable_v2%')"


# The owner knows what is left of V1: the archive is tried with triggers that still write it.
IGNORE_SQL = """
select crossfade.ignore_dependents('notes',
  array(select d.object from crossfade_private.v1_dependents(p) d), 'soak')
from crossfade.pairs p
where exists (select from crossfade_private.v1_dependents(p))
"""


def stage_sql(stage: str) -> str:
    return f"select crossfade.set_stage('notes', '{stage}', 'soak', true)"


def mirror_sql(mode: str) -> str:
    return f"select crossfade.set_mirror('notes', '{mode}', 'soak')"


WORKS = {
    "dualwrite": stage_sql("dualwrite"),
    "shadow": stage_sql("shadow"),
    "live": stage_sql("live"),
    "everybody": """select crossfade.set_cohort('notes', '{"percentage": 100}', 'soak')""",
    "rampdown": stage_sql("rampdown"),
    "complete": f"{IGNORE_SQL};\n{stage_sql('complete')}",
    "retired": stage_sql("retired"),
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
# Not SQL: the runner does them itself.
CRASH, KILL, RESTORE = "crash", "kill", "restore"

_EFFECTS: dict[str, Callable[[Excuses], Excuses]] = {
    "dualwrite": lambda now: replace(now, mirrored=True),
    "complete": lambda now: replace(now, archived=True),
    "retired": lambda now: replace(now, retired=True),
    "swap back": lambda now: replace(now, archived=True, retired=False),
    "rampdown": lambda now: replace(now, archived=False),
    "backfill": lambda now: replace(now, copied=True),
}


def after(work: str, answer: object, now: Excuses) -> Excuses:
    """Return what may differ after a work that the engine did not refuse."""
    if work == "backfill" and answer != "finished":
        return now
    return _EFFECTS[work](now) if work in _EFFECTS else now

"""A release that does not exist: this one's schema with a change of every kind that may come."""

import shutil
from pathlib import Path

from crossfade import __version__
from crossfade.project import resources
from crossfade.project.schema import migration_text

NEXT = "0.3.0"
NEW_LINE = f"-- This line is new in {NEXT}."
GONE = (
    "crossfade_private.refuse_or_record(text,integer,jsonb,text,text,text,text)",
    "crossfade_private.record_failure(text,integer,jsonb,text,text,text,jsonb)",
    "crossfade_private.refuse_fenced_write()",
    "crossfade_private.fence_engaged(text)",
)
"""What the mirrors of this release need: called by generated code, by a trigger, and by these."""

_NEW_TABLE = """create table if not exists crossfade.remarks (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  remark text not null
);

comment on table crossfade.remarks is 'New in this release.';
comment on table crossfade.pairs is"""
_CHANGES = """  if not exists (select from pg_catalog.pg_attribute a
    where a.attrelid = 'crossfade.pairs'::regclass and a.attname = 'remark') then
    alter table crossfade.pairs add column remark text;
    alter table crossfade.kill_switches add column remark text;
    alter table crossfade.pairs drop constraint stage_is_known;
    alter table crossfade.pairs add constraint stage_is_known check (
      stage in ('off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired',
        'forgotten'));
  end if;
  perform crossfade_private.refresh_pairs("""


def next_release(folder: Path) -> str:
    """Return the migration of the next release.

    Args:
        folder: where its schema is made.
    """
    schema = folder / "next"
    shutil.copytree(resources.schema_dir(), schema)
    # Functions of other names and parameters take the place of those that the mirrors of registered
    # pairs need.
    for path in schema.rglob("*.sql"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("record_failure", "note_failure")
        text = text.replace("refuse_fenced_write", "refuse_closed_write")
        text = text.replace("fence_engaged", "fence_stands")
        text = text.replace("refuse_or_record(\n  pair", "refuse_or_note(\n  release text, pair")
        text = text.replace("refuse_or_record(\n", f"refuse_or_note('{NEXT}',\n")
        path.write_text(text.replace("refuse_or_record", "refuse_or_note"), encoding="utf-8")
    for name in ("insert", "put", "update", "edit", "move", "delete"):
        mirror = schema / "mirror" / f"{name}.sql"
        head = "\n#variable_conflict use_column\n"
        change(mirror, head, f"\n{NEW_LINE}{head}")
    change(schema / "pairs" / "triggers.sql", f"'{__version__}'::text", f"'{NEXT}'::text")
    answer = "batch_json(run, null, null) || v_done"
    told = f"{answer} || jsonb_build_object('release', '{NEXT}')"
    change(schema / "runs" / "backfill.sql", answer, told)
    remark = "'remark', (select p.remark from crossfade.pairs p where p.name = r.pair), "
    change(schema / "runs" / "runs.sql", "    'id', r.id, ", f"    'id', r.id, {remark}")
    # A table shows how it is; what brings one that is there to that stands in refresh.sql.
    pairs, switches = schema / "tables" / "pairs.sql", schema / "tables" / "kill_switches.sql"
    last = "registered_at timestamptz not null default clock_timestamp(),\n"
    change(pairs, last, f"{last}  remark text,\n")
    change(pairs, "'complete', 'retired')\n", "'complete', 'retired', 'forgotten')\n")
    change(pairs, "comment on table crossfade.pairs is", _NEW_TABLE)
    change(switches, "  reason text,\n", "  reason text,\n  remark text,\n")
    change(schema / "refresh.sql", "  perform crossfade_private.refresh_pairs(", _CHANGES)
    return migration_text(schema, NEXT)


def change(path: Path, old: str, new: str) -> None:
    """Change a file; what is to be changed must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} does not have {old!r} any more: name another place here"
    path.write_text(text.replace(old, new), encoding="utf-8")

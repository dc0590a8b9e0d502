"""A release that does not exist: this one's schema with a change of every kind that may come."""

import shutil
from pathlib import Path

from crossfade import __version__, resources
from crossfade.schema import migration_text

NEXT = "0.3.0"
NEW_LINE = f"-- This line is new in {NEXT}."
GONE = (
    "crossfade_private.refuse_or_record(text,integer,jsonb,text,text,text,text)",
    "crossfade_private.record_failure(text,integer,jsonb,text,text,text)",
    "crossfade_private.refuse_fenced_write()",
    "crossfade_private.fence_engaged(text)",
)
"""What the mirrors of this release need: called by generated code, by a trigger, and by these."""

_PAIRS = """alter table crossfade.pairs add column if not exists remark text;
alter table crossfade.pairs drop constraint if exists stage_is_known;
alter table crossfade.pairs add constraint stage_is_known check (
  stage in ('off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete', 'retired')
);

create table if not exists crossfade.remarks (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  remark text not null
);

comment on table crossfade.remarks is 'New in this release.';
comment on table crossfade.pairs is"""
_SWITCHES = """alter table crossfade.kill_switches add column if not exists remark text;

comment on table crossfade.kill_switches is"""


def next_release(folder: Path) -> str:
    """Return the migration of the next release.

    Args:
        folder: where its schema is made.
    """
    schema = folder / "next"
    shutil.copytree(resources.schema_dir(), schema)
    # Functions of other names and parameters take the place of those that the mirrors of registered
    # pairs call.
    for path in schema.rglob("*.sql"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("record_failure", "note_failure")
        text = text.replace("refuse_fenced_write", "refuse_closed_write")
        text = text.replace("fence_engaged", "fence_stands")
        text = text.replace("refuse_or_record(\n  pair", "refuse_or_note(\n  release text, pair")
        text = text.replace("refuse_or_record(\n", f"refuse_or_note('{NEXT}',\n")
        path.write_text(text.replace("refuse_or_record", "refuse_or_note"), encoding="utf-8")
    for name in ("insert", "put", "update", "edit", "move", "delete"):
        change(
            schema / "mirror" / f"{name}.sql",
            "\n#variable_conflict use_column\n",
            f"\n{NEW_LINE}\n#variable_conflict use_column\n",
        )
    change(schema / "pairs" / "triggers.sql", f"'{__version__}'::text", f"'{NEXT}'::text")
    batch = "batch_json(run, null, null) || jsonb_build_object("
    change(schema / "runs" / "backfill.sql", batch, f"{batch}'release', '{NEXT}', ")
    change(schema / "tables" / "pairs.sql", "comment on table crossfade.pairs is", _PAIRS)
    # Writers of V2 that come through the Data API read this one.
    change(
        schema / "tables" / "kill_switches.sql",
        "comment on table crossfade.kill_switches is",
        _SWITCHES,
    )
    return migration_text(schema, NEXT)


def change(path: Path, old: str, new: str) -> None:
    """Change a file; what is to be changed must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} does not have {old!r} any more: name another place here"
    path.write_text(text.replace(old, new), encoding="utf-8")

"""Golden texts of generated mirrors: ``tests/golden/mirror/<kind>/``, of the pair in its pair.sql.

Written anew by ``python -m tests.sql.generated``, on PostgreSQL 18; read what changed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg

from crossfade.local.postgres import PostgresServer
from tests.sql.conftest import ROOT, Connection, migrated

GOLDEN = ROOT / "tests" / "golden" / "mirror"
KINDS = tuple(sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
DEFINED = {
    "function": """
        select regexp_replace(p.proname, '^mirror_[a-z0-9_]+?_(v[12]_[a-z]+)$', '\\1'),
          pg_get_functiondef(p.oid)
        from pg_proc p
        where p.pronamespace = 'crossfade_private'::regnamespace
          and p.proname ~ '^mirror_[a-z0-9_]+_v[12]_[a-z]+$'
          -- Two constants, which change with the stage.
          and p.proname !~ '_(state|change)$'
    """,
    "trigger": """
        select 'triggers', string_agg(pg_get_triggerdef(g.oid) || ';', e'\\n'
          order by g.tgrelid::regclass::text, g.tgname)
        from pg_trigger g join pg_proc p on p.oid = g.tgfoid
        where p.pronamespace = 'crossfade_private'::regnamespace and not g.tgisinternal
          and g.tgrelid in (select unnest(array[v1_table, v2_table])::regclass
            from crossfade.pairs)
    """,
}


def pair_file(kind: str) -> str:
    return (GOLDEN / kind / "pair.sql").read_text(encoding="utf-8")


def golden(kind: str) -> dict[str, str]:
    """What is written down: text by name of the file."""
    return {
        path.stem: path.read_text(encoding="utf-8")
        for path in (GOLDEN / kind).glob("*.sql")
        if path.stem != "pair"
    }


def generated(db: Connection, kind: str) -> dict[str, str]:
    """What registration makes of the pair, by name of the file."""
    db.execute(pair_file(kind).encode())
    return {
        name: str(text).rstrip() + "\n"
        for query in DEFINED.values()
        for name, text in db.execute(query.encode()).fetchall()
    }


def write() -> None:
    """Write all of them anew."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder) / "pg", version=18, durable=False) as server:
            template = migrated(server)
            with psycopg.connect(template.url(template.database), autocommit=True) as db:
                for kind in KINDS:
                    with db.transaction(force_rollback=True):
                        made = generated(db, kind)
                    for name in golden(kind).keys() - made.keys():
                        (GOLDEN / kind / f"{name}.sql").unlink()
                    for name, text in made.items():
                        (GOLDEN / kind / f"{name}.sql").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

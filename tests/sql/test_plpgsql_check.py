"""Every PL/pgSQL function, generated ones too, passes plpgsql_check (PostgreSQL 15, Debian)."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.conftest import DEBIAN_15_EXTENSIONS, ROOT, Template, on_debian_15
from tests.sql.notes_pair import create_notes

pytestmark = [
    on_debian_15,
    pytest.mark.skipif(
        not (DEBIAN_15_EXTENSIONS / "plpgsql_check.control").exists(),
        reason="needs Debian's postgresql-15-plpgsql-check",
    ),
]

# chat_features adds to the tables of chat_messages.
PAIRS = sorted(
    (ROOT / "sql" / "pairs").glob("*.sql"), key=lambda path: (path.stem == "chat_features", path)
)

# What is known and right, by function and part of the message. Generated functions count as one.
ALLOWED = {
    ("run_check", "is not sanitized"): "one of the texts whose digests are known",
    ("find_user", '"auth.users" does not exist'): "read where Supabase Auth is only",
    ("parse_object", "pg_input_is_valid"): "called on PostgreSQL 16 and later only",
    ("schedule_run", 'schema "cron" does not exist'): "called where pg_cron is installed only",
    ("drive_monitor", 'schema "cron" does not exist'): "called where pg_cron is installed only",
    ("unschedule_watch", '"cron.job" does not exist'): "called where pg_cron is installed only",
    ("unschedule_run", '"cron.job" does not exist'): "called where pg_cron is installed only",
    ("find_mismatches", "is not sanitized"): "made by render from quoted pieces",
    ("unmirrored_rows", "is not sanitized"): "made by render from quoted pieces",
    ("find_mismatches", "is maybe unmodified"): "filled by return query execute",
    ("look_at_keys", "is maybe unmodified"): "filled by return query execute",
    ("fill_rows", "is not sanitized"): "made by format from names of the catalog",
    ("fill_rows", "is maybe unmodified"): "filled by return query execute",
    ("copy_range", "is not sanitized"): "made by render from quoted pieces",
    ("write_rows", "is not sanitized"): "made by render from quoted pieces",
    ("do_slices", "composite OUT variable"): "one of several columns of the answer",
    ("job_dependents", "is maybe unmodified"): "filled by return query execute",
    ("copy_sequence_rights", "is not sanitized"): "a regclass and names of the catalog",
    ("return_sequences", "is not sanitized"): "names that own_sequences quoted and kept",
    ("copy_defaults", "is not sanitized"): "made by format from names of the catalog",
    ("copy_table_rights", "is not sanitized"): "made by format from names of the catalog",
    ("close_partition", "is not sanitized"): "made by format from names of the catalog",
    ("relabel_bound_sql", "without RETURN"): "ends in fail(), which always raises",
    ("swap_back_tables", "is not sanitized"): "names of the pair's row, quoted in it",
    ("mend_state", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("remove_older", "is not sanitized"): "made by format from names of the catalog",
    ("printed_body", "is not sanitized"): "a function's own text, as its owner's",
    ("query_types", "is not sanitized"): "a converter's text, as the mirror runs it",
    ("repointed_query", "is not sanitized"): "a view's own text, and of it nothing runs",
    ("query_types", 'schema "pg_temp" does not exist'): "its own view, made a line before",
    ("split_keys", "is maybe unmodified"): "filled by return query execute",
    ("parse_setting", "without RETURN"): "ends in fail(), which always raises",
    ("set_setting", "without RETURN"): "ends in fail(), which always raises",
    ("record_verdicts", "without RETURN"): "ends in fail(), which always raises",
    ("mirror", 'never read variable "cf_nested"'): "an assignment runs no query, PERFORM does",
    ("mirror", 'never read variable "cf_number"'): "counting is what it is for",
    ("make_counters", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("drop_counters", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("make_mirror_function", "is not sanitized"): "made by render from quoted pieces",
    ("make_mirror_trigger", "is not sanitized"): "made by render from quoted pieces",
    ("set_state", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("set_state_functions", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("unregister_pair", "is not sanitized"): "the name of a pair, which is a short identifier",
    ("drop_left_behind", "is not sanitized"): "made by format from names of the catalog",
}

CHECK = """
select case when p.proname ~ '^mirror_.*_v[12]_' then 'mirror' else p.proname::text end,
  p.oid::regprocedure::text, c.level, c.message
from pg_catalog.pg_proc p
join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
left join lateral (
  select g.* from pg_catalog.pg_trigger g where g.tgfoid = p.oid order by g.oid limit 1
) g on true
cross join lateral extensions.plpgsql_check_function_tb(
  p.oid, coalesce(g.tgrelid, case p.prorettype when 'trigger'::regtype
    then 'public.notes'::regclass end, 0), fatal_errors => false, other_warnings => true,
  extra_warnings => true, performance_warnings => false, security_warnings => true,
  oldtable => g.tgoldtable, newtable => g.tgnewtable) c
where n.nspname in ('crossfade', 'crossfade_private', 'chat_private', 'agent_tools_private')
  and c.level <> 'performance'
order by 2, 4
"""


@pytest.fixture
def checked(template: Template, database: str) -> psycopg.Connection[tuple[str, str, str, str]]:
    """A superuser's connection to a database with all pairs and the extension."""
    admin = psycopg.connect(database.replace("postgres@", "supabase_admin@"), autocommit=True)
    admin.execute("create extension plpgsql_check schema extensions")
    with psycopg.connect(database, autocommit=True) as owner:
        create_notes(owner)
        for path in PAIRS:
            owner.execute(path.read_text())
    return admin


def test_every_function_passes_plpgsql_check(
    checked: psycopg.Connection[tuple[str, str, str, str]],
) -> None:
    with checked:
        found = checked.execute(CHECK).fetchall()
    used = {
        (name, part)
        for name, part in ALLOWED
        if any(name == function and part in message for function, _, _, message in found)
    }
    wrong = [
        (signature, level, message)
        for name, signature, level, message in found
        if not any(name == function and part in message for function, part in ALLOWED)
    ]
    assert not wrong, "\n".join(map(str, wrong))
    assert set(ALLOWED) - used <= {key for key in ALLOWED if "cron" in key[1]}


def test_the_check_sees_a_mistake_in_a_generated_function(
    checked: psycopg.Connection[tuple[str, str, str, str]],
) -> None:
    with checked:
        checked.execute("""
            create or replace function crossfade_private.mirror_notes_v1_insert() returns trigger
            language plpgsql as $$
            begin
              update public.notes_v2 set no_such_column = new.id;
              return null;
            end $$
        """)
        one = CHECK.replace("where n.", "where p.proname = 'mirror_notes_v1_insert' and n.")
        found = checked.execute(one).fetchall()
    assert [message for name, _, level, message in found if level == "error" and name == "mirror"]

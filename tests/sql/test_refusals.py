"""Registration refuses by name and with a way out that runs, in the same words everywhere."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest

from .conftest import Connection
from .control import call
from .notes_pair import REGISTER, TABLES, rows

ARGUMENTS = {
    "v1": "public.notes",
    "v2": "public.notes_v2",
    "to_v2": "public.notes_to_v2",
    "to_v1": "public.notes_to_v1",
}


def refused(db: Connection) -> list[str]:
    """What registration says, which judge_pair must say as well."""
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        db.execute(REGISTER, ["{}"])
    found = json.loads(caught.value.diag.message_detail or "{}")
    assert found["code"] == "CF008"
    judged = call(db, "judge_pair", "notes", **ARGUMENTS)
    assert judged["problems"] == found["problems"]
    named: list[str] = found["problems"]
    return named


def way_out(problem: str) -> str:
    match = re.search(r"; run: (.+)$", problem)
    assert match, problem
    return match[1]


def registers(db: Connection) -> None:
    db.execute(REGISTER, ["{}"])
    assert call(db, "judge_pair", "notes")["problems"] == []


DEFERRED = {
    # A statement, and what is named: the kind of constraint and its name.
    "unique": (
        "alter table public.notes_v2 add constraint late unique (tag) deferrable "
        "initially deferred",
        'V2 public.notes_v2: unique constraint "late" is initially deferred'),
    "unique on V1": (
        "alter table public.notes add constraint late unique (tag) deferrable initially deferred",
        'V1 public.notes: unique constraint "late" is initially deferred'),
    "primary key": (
        "alter table public.notes_v2 drop constraint notes_v2_pkey, add constraint late "
        "primary key (id) deferrable initially deferred, add unique (id)",
        'V2 public.notes_v2: primary key "late" is initially deferred'),
    "exclusion": (
        "alter table public.notes_v2 add during int4range, add constraint late "
        "exclude using gist (during with &&) deferrable initially deferred",
        'V2 public.notes_v2: exclusion constraint "late" is initially deferred'),
    "foreign key": (
        "create table public.tags (tag text primary key); alter table public.notes_v2 add "
        "constraint late foreign key (tag) references public.tags initially deferred",
        'V2 public.notes_v2: foreign key "late" is initially deferred'),
    "foreign key to itself": (
        "alter table public.notes_v2 add parent bigint, add constraint late "
        "foreign key (parent) references public.notes_v2 initially deferred",
        'V2 public.notes_v2: foreign key "late" is initially deferred'),
    "foreign key of a child": (
        "create table public.children (note bigint constraint late references public.notes_v2 "
        "initially deferred)",
        'V2 public.notes_v2: foreign key "late" of public.children is initially deferred'),
    "constraint trigger": (
        "create function public.f() returns trigger language plpgsql as 'begin return null; end';"
        "create constraint trigger late after insert on public.notes_v2 initially deferred "
        "for each row execute function public.f()",
        'V2 public.notes_v2 has the deferrable trigger "late"'),
    "constraint trigger, initially immediate": (
        "create function public.f() returns trigger language plpgsql as 'begin return null; end';"
        "create constraint trigger late after update on public.notes deferrable "
        "for each row execute function public.f()",
        'V1 public.notes has the deferrable trigger "late"'),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEFERRED)
def test_what_is_looked_at_at_commit_is_refused_and_the_way_out_runs(
    scratch: Connection, kind: str
) -> None:
    statement, named = DEFERRED[kind]
    scratch.execute(TABLES)
    # Converters name every column of V2: those that a case adds are added there, too.
    if " add during " in statement or " add parent " in statement:
        scratch.execute("drop function public.notes_to_v2")
        scratch.execute(statement)
        added = "during" if "during" in statement else "parent"
        scratch.execute(f"""create function public.notes_to_v2(
            new_v1 public.notes, old_v2 public.notes_v2) returns setof public.notes_v2
            language sql stable as $$ select new_v1.id, new_v1.owner_id,
              jsonb_build_array(new_v1.body), new_v1.tag, false, 0, old_v2.{added} $$""")
    else:
        scratch.execute(statement)
    (problem,) = refused(scratch)
    assert problem.startswith(named)
    scratch.execute(way_out(problem))
    registers(scratch)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table public.notes_v2 add unique (tag) deferrable initially immediate",
        "create table public.tags (tag text primary key); alter table public.notes_v2 add "
        "foreign key (tag) references public.tags deferrable initially immediate",
        "create table public.children (note bigint references public.notes_v2 "
        "on delete cascade on update cascade initially deferred)",
    ],
)
def test_what_is_deferred_only_by_the_client_or_acts_at_once_is_accepted(
    scratch: Connection, statement: str
) -> None:
    scratch.execute(TABLES)
    scratch.execute(statement)
    registers(scratch)


@pytest.mark.parametrize(
    ("column", "renamed"), [("cf_new", "new"), ("cf_", "renamed"), ("cf_tag", "tag_1")]
)
def test_a_column_named_as_ours_are_is_refused_and_the_way_out_runs(
    scratch: Connection, column: str, renamed: str
) -> None:
    scratch.execute(TABLES)
    scratch.execute(f"alter table public.notes rename owner_id to {column}")
    (problem,) = [text for text in refused(scratch) if column in text]
    assert problem.startswith(f'V1 public.notes: column "{column}" begins with cf_')
    scratch.execute(way_out(problem))
    assert rows(
        scratch,
        "select attname from pg_attribute where attrelid = 'public.notes'::regclass and attnum = 2",
    ) == [(renamed,)]


# Owners -------------------------------------------------------------------------------------------


@pytest.fixture
def team(scratch: Connection) -> Connection:
    """The pair, and roles that are not the engine's owner: stranger, and member's group."""
    scratch.execute(TABLES)
    scratch.execute("create role crossfade_stranger; create role crossfade_group")
    scratch.execute("grant crossfade_group, crossfade_stranger to postgres")
    scratch.execute("grant usage, create on schema public to crossfade_group, crossfade_stranger")
    return scratch


CONVERTERS = {
    "to_v2": "alter function public.notes_to_v2 owner to {}",
    "to_v1": "alter function public.notes_to_v1 owner to {}",
}


@pytest.mark.parametrize("role", ["crossfade_stranger", "crossfade_group", "authenticated"])
@pytest.mark.parametrize("which", CONVERTERS)
def test_a_converter_that_somebody_else_could_replace_is_refused(
    team: Connection, which: str, role: str
) -> None:
    team.execute("grant create on schema public to authenticated")
    team.execute(CONVERTERS[which].format(role))
    (problem,) = refused(team)
    assert problem.startswith(f"function {which} public.notes_{which} belongs to {role}, who could")
    team.execute(way_out(problem))
    registers(team)


@pytest.mark.parametrize("body", ["begin atomic {}; end", "as $$ {} $$"])
def test_a_function_that_a_converter_calls_is_looked_at_as_well(
    team: Connection, body: str
) -> None:
    inner = "select public.inner_part(new_v2.parts ->> 0)"
    team.execute(f"""
        create function public.innermost(a text) returns text language sql stable
        begin atomic select a; end;
        create function public.inner_part(a text) returns text language sql stable
        begin atomic select public.innermost(a); end;
        create or replace function public.notes_to_v1(
          new_v2 public.notes_v2, old_v1 public.notes) returns setof public.notes
        language sql stable {
        body.format(f"select new_v2.id, new_v2.owner_id, ({inner}), new_v2.tag")
    };
        alter function public.innermost owner to crossfade_stranger""")
    (problem,) = refused(team)
    assert problem.startswith("function public.innermost(text), which the converters call, belongs")
    team.execute(way_out(problem))
    registers(team)


def test_a_function_behind_an_operator_of_a_converter_is_looked_at(team: Connection) -> None:
    team.execute("""
        create function public.glue(a text, b text) returns text language sql stable
        begin atomic select a || b; end;
        create operator public.|+| (leftarg = text, rightarg = text, function = public.glue);
        create or replace function public.notes_to_v1(
          new_v2 public.notes_v2, old_v1 public.notes) returns setof public.notes
        language sql stable begin atomic select new_v2.id, new_v2.owner_id,
          (new_v2.parts ->> 0) operator(public.|+|) '', new_v2.tag; end;
        alter function public.glue owner to crossfade_stranger""")
    (problem,) = refused(team)
    assert problem.startswith("function public.glue(text,text), which the converters call, belongs")


def test_tables_of_a_group_that_the_engine_belongs_to_are_accepted(team: Connection) -> None:
    team.execute("alter table public.notes owner to crossfade_group")
    team.execute("alter table public.notes_v2 owner to crossfade_group")
    registers(team)


@pytest.mark.parametrize("table", ["V1 public.notes", "V2 public.notes_v2"])
def test_a_table_of_an_owner_whom_the_engine_cannot_be_is_refused(
    team: Connection, table: str
) -> None:
    team.execute(f"alter table {table[3:]} owner to crossfade_stranger")
    team.execute("revoke crossfade_stranger from postgres")
    problems = [text for text in refused(team) if "belongs to" in text]
    (problem,) = problems
    assert problem.startswith(f"{table} belongs to crossfade_stranger, of which postgres is not")
    assert way_out(problem) == f"alter table {table[3:]} owner to postgres"
    team.execute("grant crossfade_stranger to postgres")
    team.execute(way_out(problem))
    registers(team)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_table_of_an_api_role_is_refused(team: Connection, role: str) -> None:
    team.execute(f"grant create on schema public to {role}")
    team.execute(f"alter table public.notes_v2 owner to {role}")
    (problem,) = refused(team)
    assert problem.startswith(f"V2 public.notes_v2 belongs to the API role {role}")
    team.execute(way_out(problem))
    registers(team)


CODE = {
    "trigger": "create trigger theirs after insert on public.notes_v2 for each row "
    "execute function public.theirs()",
    "default": "alter table public.notes_v2 alter tag set default public.theirs_too()",
    "check": "alter table public.notes_v2 add check (tag is distinct from public.theirs_too())",
    "index": "create index on public.notes_v2 (coalesce(tag, public.theirs_too()))",
}


@pytest.mark.parametrize("kind", CODE)
def test_code_that_runs_when_the_mirror_writes_and_that_others_could_replace_is_refused(
    team: Connection, kind: str
) -> None:
    team.execute("""
        create function public.theirs() returns trigger language plpgsql
        as 'begin return null; end';
        create function public.theirs_too() returns text language sql immutable
        begin atomic select ''::text; end""")
    team.execute(CODE[kind])
    name = "public.theirs()" if kind == "trigger" else "public.theirs_too()"
    team.execute(f"alter function {name} owner to crossfade_stranger")
    (problem,) = refused(team)
    assert problem.startswith(f"V2 public.notes_v2: function {name}, which its triggers")
    team.execute(f"alter function {name} security definer")
    registers(team)  # it runs as its owner, whoever fires it


def test_a_registered_pair_is_judged_by_the_same_rules_before_every_stage(
    team: Connection,
) -> None:
    registers(team)
    team.execute("alter function public.notes_to_v2 owner to crossfade_stranger")
    (problem,) = call(team, "judge_pair", "notes")["problems"]
    assert "crossfade_stranger" in problem
    blockers = rows(
        team,
        "select b ->> 'code', b ->> 'message' from crossfade.pairs p, "
        "crossfade_private.stage_blockers(p, 'dualwrite') b",
    )
    assert blockers == [("mirror_broken", problem)]


def test_a_publication_that_stops_updates_is_warned_of_and_blocks_the_next_stage(
    scratch: Connection,
) -> None:
    scratch.execute(TABLES)
    scratch.execute("alter table public.notes_v2 drop constraint notes_v2_pkey, add unique (id)")
    scratch.execute("create publication told for table public.notes_v2")
    (warning,) = [
        text
        for text in scratch.execute(REGISTER, ["{}"]).fetchall()[0][0]["warnings"]
        if "publication" in text
    ]
    assert warning.startswith(
        'V2 public.notes_v2 is in publication "told" without a replica identity: PostgreSQL refuses'
    )
    blockers = (
        "select b ->> 'message' from crossfade.pairs p, "
        "crossfade_private.stage_blockers(p, 'dualwrite') b"
    )
    assert rows(scratch, blockers) == [(warning,)]
    scratch.execute(way_out(warning))
    assert rows(scratch, blockers) == []
    assert "publication" not in str(call(scratch, "judge_pair", "notes")["warnings"])


# Before there is anything to register -------------------------------------------------------------


def test_a_draft_without_converters_or_v2_is_judged_as_far_as_it_goes(scratch: Connection) -> None:
    scratch.execute(TABLES)
    alone: dict[str, Any] = call(scratch, "judge_pair", "notes", v1="public.notes")
    assert (alone["problems"], alone["warnings"]) == ([], [])
    both = call(scratch, "judge_pair", "notes", v1="public.notes", v2="public.notes_v2")
    assert both["problems"] == []
    scratch.execute("alter table public.notes alter id type float8")
    alone = call(scratch, "judge_pair", "notes", v1="public.notes")
    (problem,) = alone["problems"]
    assert problem.startswith('V1 public.notes: key column "id" is double precision')
    both = call(scratch, "judge_pair", "notes", v1="public.notes", v2="public.notes_v2")
    assert problem in both["problems"]
    assert 'key column "id" is double precision in V1 but "id" is bigint in V2' in str(both)


def test_judging_changes_nothing(scratch: Connection) -> None:
    scratch.execute(TABLES)
    call(scratch, "judge_pair", "notes", **ARGUMENTS)
    assert rows(scratch, "select * from crossfade.pairs") == []
    with pytest.raises(psycopg.Error, match='Unknown pair "notes"'), scratch.transaction():
        call(scratch, "judge_pair", "notes")
    with pytest.raises(psycopg.Error, match="to_v2"), scratch.transaction():
        scratch.execute("select crossfade.register_pair('notes', 'public.notes', "
                        "'public.notes_v2', null, null)")  # fmt: skip

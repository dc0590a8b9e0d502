"""Any form of a converter: what our statements compute with its text is what a call computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import Connection
from .control import call, one
from .things_pair import backfill, failures, verify

TABLES = """
create schema shapes;
create type shapes.mood as enum ('calm', 'in a hurry');
create type shapes.place as (street text, number integer, inner_place text[]);
create domain shapes.short as varchar(5);
create domain shapes.positive as integer check (value > 0);
create table public.words (word text primary key, meaning text);
insert into public.words values ('a', 'first'), ('b', 'second'), ('cf', 'never');
create table public.things (
  id integer primary key, body text, n integer, amount numeric(10, 2), code varchar(5),
  flag char(3), tags text[], doc jsonb, "Odd name" text, "a""b" text, "it's" text, mood shapes.mood,
  home shapes.place, at timestamptz, span int4range, short shapes.short, value text, key text,
  "select" text, new_v1 text, x text, "ünï" text
);
create table public.things_v2 (id integer primary key, x text, y jsonb, kept text);
create function public.things_to_v1(b public.things_v2, o public.things)
returns setof public.things language sql stable set search_path = pg_catalog, pg_temp
begin atomic select b.id, o.body, o.n, o.amount, o.code, o.flag, o.tags, o.doc, o."Odd name",
  o."a""b", o."it's", o.mood, o.home, o.at, o.span, o.short, o.value, o.key, o."select", o.new_v1,
  o.x, o."ünï"; end;
create function public.loud(t public.things) returns text language sql immutable
set search_path = '' as $$ select upper(t.body) || coalesce(t."a""b", '-') $$;
create function public.loud(note text) returns text language sql immutable
set search_path = '' as $$ select upper(note) $$;
"""
# Every column is edited at least once, alone.
EDITS = {
    "body": r"'it''s {source} \ % $$ cf_s chr(3) '||chr(10)||'--'",
    "n": "7",
    "amount": "12.30",
    "code": "'ab'",
    "flag": "'a'",
    "tags": r"array['b', null, '\"', 'cf']",
    "doc": """'{"a": 1.10, "b": [null, "x"]}'""",
    '"Odd name"': "'odd'",
    '"a""b"': "'quoted'",
    '"it\'s"': "'it'",
    "mood": "'in a hurry'",
    "home": "row('Road', 4, array['x'])::shapes.place",
    "at": "'2026-05-06 07:08:09.123456+02'",
    "span": "'[2,9)'",
    "short": "'abc'",
    "value": "'v'",
    "key": "'k'",
    '"select"': "'s'",
    "new_v1": "'n'",
    "x": "'x'",
    '"ünï"': "'ü'",
}


@dataclass(frozen=True)
class Form:
    """A converter; {a} and {o} in its text are its parameters, as they are written in SQL."""

    path: str
    text: str
    a: str = "new_v1"
    o: str = "old_v2"
    settings: str = "set search_path = pg_catalog, pg_temp"
    name: str = "things_to_v2"
    styles: tuple[str, ...] = ("atomic", "string")

    def sql(self, style: str) -> str:
        """The function; parameters without names are written $1 and $2."""
        body = self.text.replace("{a}", self.a or "$1").replace("{o}", self.o or "$2")
        body = f"begin atomic {body}; end" if style == "atomic" else f"as $form$ {body} $form$"
        return (
            f'create function public."{self.name}"({self.a} public.things, {self.o} '
            f"public.things_v2) returns setof public.things_v2 language sql stable "
            f"{self.settings} {body}"
        )


def column(x: str, y: str = "null::jsonb", **more: Any) -> Form:
    """A converter that is a bare select list."""
    return Form("items", f"select {{a}}.id, {x}, {y}, {{o}}.kept", **more)


def query(text: str, **more: Any) -> Form:
    return Form("text", text, **more)


def called(text: str, **more: Any) -> Form:
    return Form("call", text, **more)


AN_X = "select {a}.id, %s, null::jsonb, {o}.kept"
FORMS = {
    "a column": column("{a}.body"),
    "case": column(
        "case when {a}.n > 3 then {a}.body when {a}.body is distinct from {a}.x then 'x' end"
    ),
    "simple case": column("case {a}.mood when 'calm' then 'c' else {a}.code end"),
    "casts": column("{a}.n::text || {a}.amount::text || {a}.at::text || {a}.span::text"),
    "casts that cut": column(
        "{a}.body::varchar(3) || {a}.body::char(2) || {a}.amount::numeric(3,0)"),
    "a field of a composite": column("(({a}.home).inner_place)[1] || ({a}.home).number"),
    "arrays": column(
        "{a}.tags[1] || array_to_string({a}.tags[2:3], ',', '-')", "to_jsonb({a}.tags)"),
    "an array": column("(array[{a}.body, {a}.x, 'y'])[2]", "to_jsonb(array[{a}.n, 1])"),
    "json": column("{a}.doc #>> '{b,1}'", "{a}.doc -> 'b' || jsonb_build_object('n', {a}.n)"),
    "between, in, like, any": column(
        "({a}.n between 1 and 8 and {a}.body like '%s_' and {a}.x in ('x', 'y') "
        "or {a}.code = any ({a}.tags))::text"
    ),
    "a sub-select": column("(select max(t) from unnest({a}.tags) t)"),
    "a sub-select of a table": column(
        "(select w.meaning from public.words w where w.word = {a}.tags[1] and {a}.n > 0)"
    ),
    "sub-selects in each other": column(
        "(select string_agg(t || (select count(*) from public.words w where w.word = t "
        "and {a}.n = 7), ',' order by t) from unnest({a}.tags) t where t <> {a}.body)"
    ),
    "exists": column("exists (select from unnest({a}.tags) t where t = {a}.code)::text"),
    "a table named as a column": column(
        "(select string_agg(body.body, '') from unnest({a}.tags) body(body) where {a}.body <> '')"
    ),
    "the whole row as json": column("to_jsonb({a}) ->> 'body'", "to_jsonb({a}.*)"),
    "the whole row as an argument": column("public.loud({a})"),
    "the whole row as a method": column("{a}.loud", styles=("atomic",)),
    "the whole row as text": column("{a}::text"),
    "a null row": column("case when {a} is null then 'null' when {a} is not null then 'full' end"),
    "odd column names": column('{a}."Odd name" || {a}."a""b" || {a}."it\'s" || {a}."select"'),
    "a name in another alphabet": column('{a}."ünï"'),
    "constants that look like SQL": column(
        "case {a}.body when '{source}' then '{with}' else 'new_v1 old_v2 (new_v1).id '' \" -- /* ' "
        "|| coalesce({a}.body, '$1 $2 $$ cf_made %s %I {{}}') end"
    ),
    "escapes": column(r"E'\\a\n\t\'\u00e9' || U&'d\0061t\+000061' || 'back\slash' || {a}.body"),
    "bits and bytes": column(r"(B'101' || X'1F')::text || '\x00ff'::bytea::text || {a}.code"),
    "comments": column("/* new_v1, */ {a}.body -- , old_v2\n"),
    "a label for each": Form(
        "items",
        'select {a}.id as a, {a}.body as "FROM", null::jsonb as "x,y", {o}.kept as b'),
    "a label that is a parameter": Form(
        "items", "select {a}.id as {o}, {a}.body as {a}, null::jsonb, {o}.kept"),
    "too long for the column": column("left(repeat(coalesce({a}.body, 'z'), 9), 9)"),
    "coalesce and nullif": column("coalesce(nullif({a}.body, ''), greatest({a}.x, {a}.code), 'z')"),
    "operators of many kinds": column(
        "(({a}.n + 1) * -{a}.n % 5 & 7)::text || ({a}.n is null)::text || (not {a}.n > 1)::text"
    ),
    "extract, substring, overlay, trim, position": column(
        "extract(year from {a}.at) || substring({a}.body from 2 for 3) || overlay({a}.body placing "
        "'o' from 2 for 1) || trim(both ' ' from {a}.body) || position('a' in {a}.body)"
    ),
    "at time zone": column("({a}.at at time zone 'Asia/Tokyo')::text"),
    "collate": column("({a}.body collate \"C\" < {a}.x collate \"C\")::text"),
    "a row comparison": column("(({a}.n, {a}.body) < (8, {a}.x))::text"),
    "arguments by name": column("make_date(year => 2000 + {a}.n, month => 1, day => 2)::text"),
    "variadic": column("concat_ws(',', variadic {a}.tags)"),
    "what is fixed": column("'fixed'", """'{"a": [1.10, null]}'::jsonb"""),
    "the counterpart": column("coalesce({o}.x, {a}.body)", "coalesce({o}.y, {a}.doc)"),
    "a domain": column("{a}.short || '!'"),
    "varchar and char": column("{a}.code || '|' || {a}.flag || '|'"),
    "a row of its own": column("(row({a}.body, {a}.n)).f1"),
    "min_scale": column("scale({a}.amount)::text"),
    "polymorphic": column("(array_append({a}.tags, 'é'))[4] || to_jsonb({a}.mood)"),
    # Parameters --------------------------------------------------------------------------------
    "parameters named as columns": column("{a}.body || {a}.x", a="body", o="x"),
    "a column named as the parameter": column(
        "{a}.new_v1 || (select max(t) from unnest({a}.tags) t)"),
    "parameters named as types": column("{a}.body::text || {a}.n::text", a="text", o="jsonb"),
    "parameters named as functions": column(
        "upper({a}.body) || lower({a}.x)", a="upper", o="lower"),
    "parameters named as keywords": column("{a}.body", a='"select"', o='"from"'),
    "parameters with small keywords": column(
        "extract(year from {a}.at)::text || {a}.at::timestamp::text", a="year", o="zone"
    ),
    "parameters with spaces": column("{a}.body || (select max(t) from unnest({a}.tags) t)",
                                     a='"New V1"', o='"old ""V2"""'),
    "parameters with every sign": column("{a}.body", a="\"a.b)(,'\\$1%s{x}\"", o='"--"'),
    "parameters in another alphabet": column("{a}.body || {a}.n", a='"Ünï"', o='"İ"'),
    "parameters without names": column(
        "{a}.body || (select max(t) from unnest({a}.tags) t)", a="", o=""),
    "one parameter without a name": column("{a}.body", o=""),
    "parameters named as ours": column("{a}.body || (select max(t) from unnest({a}.tags) t)",
                                       a="cf_s", o="cf_t"),
    "parameters named as the function": column("{a}.body", a="things_to_v2", o="old_v2"),
    "parameters named as their rows would be": column("{a}.body", a="new", o="old"),
    "parameters named as xml would": column("{a}.body", a="name", o="value"),
    "a function with an odd name": column(
        "(select max(t) from unnest({a}.tags) t where {a}.n > 0)", name="to V2 (x), y's {source}"),
    # Queries -----------------------------------------------------------------------------------
    "a FROM": query(
        "select {a}.id, max(t.v), to_jsonb(count(*)), {o}.kept from unnest({a}.tags) t(v)"),
    "a WHERE that is always true": query(AN_X % "{a}.body" + " where true"),
    "a join": query(
        "select {a}.id, string_agg(w.meaning, ',' order by w.word), null::jsonb, {o}.kept "
        "from public.words w left join unnest({a}.tags) t(v) on t.v = w.word"),
    "lateral": query(
        "select {a}.id, q.m, to_jsonb(q.c), {o}.kept from (select 1) one cross join lateral "
        "(select max(t) m, count(*) c from unnest({a}.tags) t) q"),
    "a CTE": query(
        "with parts as (select t, row_number() over (order by t) r from unnest({a}.tags) t) "
        "select {a}.id, (select max(t) from parts where r = 1), null::jsonb, {o}.kept"),
    "a recursive CTE": query(
        "with recursive s(i) as (select 1 union all select i + 1 from s where i < {a}.n) "
        "select {a}.id, string_agg(i::text, ','), null::jsonb, {o}.kept from s"),
    "a CTE named as the parameter": query(
        "with {o} as (select {a}.n + 1 as n), {a} as (select n from {o}) "
        "select {a}.id, (select {a}.n::text from {a} q), null::jsonb, {o}.kept"),
    "an alias named as the parameter": query(
        "select q.id, q.body, null::jsonb, {o}.kept "
        "from (values ({a}.id, {a}.body, 1)) {a}(id, body, n) "
        "cross join lateral (select {a}.id, {a}.body) q"),
    "union all of two branches": query(
        f"{AN_X % '{a}.body'} where {{a}}.n > 3 union all {AN_X % '{a}.x'} where ({{a}}.n > 3) "
        "is not true"),
    "union": query(f"({AN_X % '{a}.body'} limit 1) union {AN_X % '{a}.body'}"),
    "values": query("values ({a}.id, {a}.body, null::jsonb, {o}.kept)"),
    "distinct": query("select distinct {a}.id, {a}.body, null::jsonb, {o}.kept"),
    "an aggregate of nothing": query(
        "select {a}.id, count(*)::text || {a}.body, null::jsonb, {o}.kept"),
    "a window": query(
        "select {a}.id, (row_number() over ())::text || {a}.body, null::jsonb, {o}.kept"),
    "a set in the list": query("select {a}.id, unnest(array[{a}.body]), null::jsonb, {o}.kept"),
    "limit": query(AN_X % "{a}.body" + " order by 1 limit 1"),
    "star": query("select s.* from (select {a}.id, {a}.body, {a}.doc, {o}.kept) s"),
    "a function in FROM": query(
        "select {a}.id, e.value, e.all_of, {o}.kept from (select string_agg(e.key || e.value, '') "
        "as value, jsonb_agg(e.key) all_of from jsonb_each_text({a}.doc) e) e"),
    "with ordinality": query(
        "select {a}.id, string_agg(u.n || u.v, ',' order by u.n), null::jsonb, {o}.kept "
        "from unnest({a}.tags) with ordinality u(v, n)"),
    "rows from": query(
        "select {a}.id, string_agg(u.n || u.v, ',' order by u.n), null::jsonb, {o}.kept "
        "from rows from (unnest({a}.tags), generate_series(1, 3)) u(v, n)"),
    "grouping sets": query(
        "select {a}.id, max(q.v) || count(*), null::jsonb, {o}.kept "
        "from (select t.v, grouping(t.v) g from unnest({a}.tags) t(v) group by rollup (t.v)) q"),
    "a filter and within group": query(
        "select {a}.id, count(*) filter (where t > 'a') || mode() within group (order by t), "
        "null::jsonb, {o}.kept from unnest({a}.tags) t"),
    "tables named as ours": called("select {a}.id, max(cf_s.w), null::jsonb, {o}.kept "
                                   "from unnest({a}.tags) cf_s(w)"),
    "a table named as the function": called(
        "select {a}.id, max(things_to_v2.w), null::jsonb, {o}.kept "
        "from unnest({a}.tags) things_to_v2(w)", styles=("atomic",)),
    # Calls -------------------------------------------------------------------------------------
    "a composite": called("select row({a}.id, {a}.body, {a}.doc, {o}.kept)::public.things_v2"),
    "a composite of json": called(
        "select jsonb_populate_record({o}, jsonb_build_object('id', {a}.id, 'x', {a}.body))"),
    "several statements": called(f"select 1; {AN_X % '{a}.body'}"),
    "no search_path": called(AN_X % "{a}.body", settings="", styles=("string",)),
    "no search_path, but names that are bound": column("{a}.body", settings="", styles=("atomic",)),
    "an empty search_path": column("upper({a}.body)", settings="set search_path = ''"),
    "another search_path": called(AN_X % "{a}.body", settings="set search_path = public"),
    "another setting": called(
        AN_X % "{a}.body", settings="set search_path = pg_catalog, pg_temp set timezone = 'UTC'"),
    "security definer": called(
        AN_X % "{a}.body", settings="security definer set search_path = pg_catalog, pg_temp"),
    "our marks in a constant": called(AN_X % "'a\x03b\x04' || {a}.body"),
}  # fmt: skip

LIKE_A_CALL = """
select o.* from public.things_v2 o
except all
select c.* from public.things t left join public.things_v2 o using (id)
cross join lateral public.{0}(t, {1}) c
"""


def conversion(db: Connection, form: Form, style: str) -> dict[str, Any]:
    """Make the converter, and give how it stands in statements."""
    db.execute(form.sql(style).encode(), prepare=False)
    found: dict[str, Any] = one(
        db,
        "select crossfade_private.conversion(%s, 'public.things', 'public.things_v2')",
        f'public."{form.name}"',
    )
    assert form.path == ("items" if found["items"] else "text" if found["text"] else "call")
    return found


def agrees(db: Connection, name: str, counterpart: str) -> None:
    """Every V2 row is what a call by hand gives."""
    unlike = db.execute(LIKE_A_CALL.format(f'"{name}"', counterpart)).fetchall()
    assert (unlike, failures(db)) == ([], [])


@pytest.mark.parametrize("name", FORMS)
def test_statements_compute_what_a_call_computes(scratch: Connection, name: str) -> None:
    form = FORMS[name]
    scratch.execute(TABLES)
    lived: list[dict[str, Any]] = []
    for style in form.styles:
        with scratch.transaction(force_rollback=True):
            found = conversion(scratch, form, style)
            # All that the engine knows of a converter: the same again would be the same statements.
            if found not in lived:
                live_through(scratch, form)
                lived.append(found)


def live_through(scratch: Connection, form: Form) -> None:
    """Register the pair, write V1 in every way, and run both kinds of runs."""
    quoted = f'public."{form.name}"'
    called_for = call(scratch, "register_pair", "things", "public.things", "public.things_v2",
                      quoted, "public.things_to_v1")["warnings"]  # fmt: skip
    assert any("is called for every row" in text for text in called_for) == (form.path == "call")
    call(scratch, "set_stage", "things", "dualwrite", "test")
    columns, values = ", ".join(EDITS), ", ".join(EDITS.values())
    # One row at a time and many: rows of nulls for the first edits, whole rows for the second ones.
    scratch.execute(f"""
        insert into public.things values (1);
        insert into public.things select g from generate_series(2, {len(EDITS)}) g;
        insert into public.things (id, {columns}) values (100, {values});
        insert into public.things (id, {columns})
        select g, {values} from generate_series(101, 100 + 10 * {len(EDITS)}) g
    """)
    agrees(scratch, form.name, "null")
    scratch.execute("update public.things_v2 set kept = 'kept' where id in (1, 3, 105)")
    # Each row by another column, so that no later edit hides what an earlier one left out.
    for number, (edited, value) in enumerate(EDITS.items()):
        scratch.execute(f"""
            update public.things set {edited} = {value} where id = 1 + {number};
            update public.things set {edited} = null
            where id between 101 + 10 * {number} and 110 + 10 * {number}
        """)
    agrees(scratch, form.name, "o")
    if "{o}.kept" in form.text:
        kept = "select array_agg(id order by id) from public.things_v2 where kept = 'kept'"
        assert one(scratch, kept) == [1, 3, 105]
    assert verify(scratch, "things") == 0
    call(scratch, "set_stage", "things", "off", "test")
    scratch.execute("delete from public.things_v2 where id <> 2")
    call(scratch, "set_stage", "things", "dualwrite", "test")
    backfill(scratch, "things")
    rows = "select (select count(*) from public.things) - (select count(*) from public.things_v2)"
    assert one(scratch, rows) == 0
    agrees(scratch, form.name, "null")


READS = {
    '(\x03).a || (\x03)."b c" || (\x04).d': ["a", "b c"],
    '(\x03)."a""" || (\x03)."""" || (\x03)."(" || \'(x).y\'': ['"', "(", 'a"'],
    "((\x03).home).street || (\x03).tags[1]": ["home", "tags"],
    "to_jsonb(\x03) || (\x03).a": None,
    "(\x04).a": [],
}


@pytest.mark.parametrize("text", READS)
def test_the_columns_that_an_expression_reads_are_known(scratch: Connection, text: str) -> None:
    found = one(scratch, "select crossfade_private.columns_read(%s, chr(3))", text)
    assert found == READS[text]


ITEMS = {
    "SELECT 1, 'a,b' AS x, f(1, 2) AS \"y, z\", ARRAY[1, 2]": [
        "1", "'a,b'", "f(1, 2)", "ARRAY[1, 2]"],
    "SELECT ( SELECT a FROM t), (x IS DISTINCT FROM y)": [
        "( SELECT a FROM t)", "(x IS DISTINCT FROM y)"],
    "SELECT 'FROM' AS \"from\", \"WHERE\"": ["'FROM'", '"WHERE"'],
    "SELECT 1 FROM t": None,
    "SELECT DISTINCT 1": None,
    "SELECT count(*) OVER w": None,
    "SELECT 1;\n SELECT 2": None,
}  # fmt: skip


@pytest.mark.parametrize("text", ITEMS)
def test_a_select_list_is_split_at_its_own_commas(scratch: Connection, text: str) -> None:
    found = one(scratch, "select crossfade_private.select_items(%s)", text)
    assert (found and [item.strip() for item in found]) == ITEMS[text]


PRINTED = {
    "(a).a || (f.a).b || t.a || x::a || a(1) || a.a": (
        "(\x03).a || (\x03).b || t.a || x::a || a(1) || a.a"),
    "FROM t a JOIN u USING (a)": "FROM t a JOIN u USING (a)",
    "WITH a AS (SELECT a AS a), b AS (SELECT 1)": "WITH a AS (SELECT \x03 AS a), b AS (SELECT 1)",
    "EXTRACT(a FROM (a).b) || XMLELEMENT(NAME a, a) COLLATE a": (
        "EXTRACT(a FROM (\x03).b) || XMLELEMENT(NAME a, \x03) COLLATE a"),
    "f(a => a, $2, 'a', \"a\")": "f(a => \x03, \x04, 'a', \"a\")",
    "'back\\slash'::text": "E'back\\\\slash'::text",
}  # fmt: skip


@pytest.mark.parametrize("text", PRINTED)
def test_parameters_are_told_from_other_names(scratch: Connection, text: str) -> None:
    asked = "select crossfade_private.with_parameters(%s, array['a', 'other'], 'f')"
    assert one(scratch, asked, text) == PRINTED[text]

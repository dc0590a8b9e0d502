"""Integer keys become uuids: drafted, registered and taken through every stage, with children."""

from __future__ import annotations

import json

import pytest

from crossfade.pairs.files import PairFiles, new_pair
from crossfade.pairs.keys import carried_key

from .cases.pairs import backfill
from .conftest import Connection, begins_with, on_both_ends
from .control import call, one
from .notes_pair import rows
from .test_key_carry import carry
from .test_pair_new import STAMP, table, text_of
from .things_pair import ADA, acting_as, failures, verify

BOB = "00000000-0000-4000-8000-0000000000b0"
TENANT = "owner_id = (select auth.uid())"
WORLD = f"""
create table public.threads (
  id integer generated always as identity primary key,
  owner_id uuid not null default auth.uid(), title text,
  updated_at timestamptz not null default '2026-01-01'
);
create table public.posts (
  id bigserial primary key,
  thread_id integer not null references public.threads on delete cascade on update cascade,
  reply_to bigint references public.posts on delete set null,
  owner_id uuid not null default auth.uid(), body text
);
create index on public.posts (thread_id);
create index on public.posts (reply_to);
create function public.touch() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin new.updated_at := new.updated_at + interval '1 s'; return new; end $$;
create trigger touch before update on public.threads
for each row execute function public.touch();
insert into public.threads (owner_id, title)
select case g % 2 when 0 then '{ADA}' else '{BOB}' end::uuid, 't' || g
from generate_series(1, 40) g;
insert into public.posts (thread_id, owner_id, body)
select t.id, t.owner_id, 'p' || n from public.threads t cross join generate_series(1, 5) n;
update public.posts p set reply_to = p.id - 1
where exists (select from public.posts q where q.id = p.id - 1 and q.thread_id = p.thread_id);
alter table public.threads enable row level security;
alter table public.posts enable row level security;
create policy "Own threads" on public.threads to authenticated
using ({TENANT}) with check ({TENANT});
create policy "Own posts" on public.posts to authenticated using ({TENANT}) with check ({TENANT});
grant select, insert, update, delete on public.threads, public.posts to authenticated, service_role;
grant usage on all sequences in schema public to authenticated, service_role;
"""


PAIRS = ("threads", "posts")
V1_WRITES = """
insert into public.threads (title) values ('{n} a'), ('{n} b'), ('{n} gone');
insert into public.posts (thread_id, body)
select t.id, '{n} ' || g from public.threads t cross join generate_series(1, 3) g
where t.title like '{n} %';
update public.posts p set reply_to = (
  select min(q.id) from public.posts q where q.thread_id = p.thread_id)
where p.body = '{n} 3';
update public.posts set body = body || '!' where body = '{n} 2';
update public.posts set thread_id = (select id from public.threads where title = '{n} b' limit 1)
where body = '{n} 1' and thread_id in (select id from public.threads where title = '{n} a');
delete from public.threads where title = '{n} gone';
delete from public.posts p using public.threads t
where p.body = '{n} 1' and t.id = p.thread_id and t.title = '{n} b';
"""
V2_WRITES = """
insert into public.threads_v2 (title) values ('{n} a'), ('{n} b'), ('{n} gone');
insert into public.posts_v2 (thread_id, body)
select t.id, '{n} ' || g from public.threads_v2 t cross join generate_series(1, 3) g
where t.title like '{n} %';
with one as (select gen_random_uuid() as a, gen_random_uuid() as b, gen_random_uuid() as c)
insert into public.posts_v2 (id, thread_id, reply_to, body)
select v.id, t.id, v.reply_to, '{n} tree' from one
cross join lateral (values (one.a, null), (one.b, one.a), (one.c, one.b)) v(id, reply_to)
cross join (select id from public.threads_v2 where title = '{n} a' limit 1) t;
update public.posts_v2 set body = body || '!' where body = '{n} 2';
update public.posts_v2 set thread_id = (
  select id from public.threads_v2 where title = '{n} b' limit 1)
where body = '{n} 1' and thread_id in (select id from public.threads_v2 where title = '{n} a');
delete from public.threads_v2 where title = '{n} gone';
delete from public.posts_v2 where body = '{n} tree' and reply_to is null;
"""


def draft(db: Connection, name: str, v1: str, v2: str | None = None) -> PairFiles:
    """What ``pair new --key uid`` writes; with a V2, what it finds out itself."""
    first, two = table(db, v1), table(db, v2) if v2 else None
    key = carried_key(first, two) if two else ("uid",)
    options = {"v2_key": list(two.key)} if two else {}
    named = {"v1": first.table, "key": list(key), "options": options}
    if two:
        named["v2"] = two.table
    places = ", ".join(f"{name} => %s{'::text[]' if name == 'key' else ''}" for name in named)
    values = [json.dumps(v) if isinstance(v, dict) else v for v in named.values()]
    judged = one(db, f"select crossfade.judge_pair(%s, {places})", name, *values)
    return new_pair(name, first, two, stamp=STAMP, problems=judged["problems"], key=key)


def adopt(db: Connection, made: PairFiles) -> None:
    """Apply the two migrations."""
    assert made.undecided == ()
    for ending in ("_pair.sql", "_register.sql"):
        db.execute(text_of(made, ending).encode(), prepare=False)


def traffic(db: Connection, n: int, versions: tuple[int, ...] = (1, 2)) -> None:
    """Write as the owner of everything and as a user, through V1, V2 or both."""
    for version in versions:
        text = V1_WRITES if version == 1 else V2_WRITES
        for role in ("service_role", "authenticated"):
            name = f"n{n} v{version} {role}"
            with db.transaction(), acting_as(db, role, ADA):
                db.execute(text.format(n=name).encode(), prepare=False)


def equal(db: Connection) -> int:
    """Both sides hold the same rows, each under both keys, and all references are whole."""
    sides = [
        """select t.uid, t.id, t.owner_id, t.title, t.updated_at, p.uid, p.id, p.owner_id, p.body,
          r.uid, p.thread_id, p.reply_to
        from public.threads t left join public.posts p on p.thread_id = t.id
        left join public.posts r on r.id = p.reply_to order by 2, 7""",
        """select t.id, t.legacy_id, t.owner_id, t.title, t.updated_at, p.id, p.legacy_id,
          p.owner_id, p.body, r.id, case when p.id is not null then t.legacy_id end, r.legacy_id
        from public.threads_v2 t left join public.posts_v2 p on p.thread_id = t.id
        left join public.posts_v2 r on r.id = p.reply_to order by 2, 7""",
    ]
    left, right = (rows(db, side) for side in sides)
    assert left == right, [pair for pair in zip(left, right, strict=False) if pair[0] != pair[1]][
        :3
    ]
    assert failures(db) == []
    posts = rows(db, "select count(*) from public.posts")[0][0]
    assert posts == len([row for row in left if row[6] is not None])
    return len(left)


def carried(db: Connection) -> None:
    """Both tables carry, and both pairs are registered as drafted."""
    db.execute(WORLD)
    for name in PAIRS:
        carry(db, f"public.{name}")
        adopt(db, draft(db, name, f"public.{name}"))


@on_both_ends
@begins_with(carried)
def test_a_carried_parent_and_its_children_go_through_every_stage_and_back(
    db: Connection,
) -> None:
    for setting in ("shadow_min_reads", "stage_bake_s"):
        call(db, "set_setting", setting, "0", "test")
    assert [g["group"] for g in call(db, "group_status")["groups"]] == ["threads"]
    for name in PAIRS:
        checked = call(db, "check_conversion", name, 1)
        assert (checked["violations"], checked["rows_checked"] > 0) == ([], True)
    traffic(db, 1, (1,))
    for n, stage in enumerate(("dualwrite", "shadow", "live", "rampdown", "complete"), 2):
        for name in PAIRS:
            if stage == "live":
                verify(db, name)
            if stage == "rampdown":
                call(db, "set_cohort", name, {"percentage": 100}, "test")
        call(db, "set_group_stage", "threads", stage, "test", True)
        if stage == "dualwrite":
            traffic(db, n, (1,))
            for name in PAIRS:
                backfill(db, name)
                for _ in range(3):
                    call(db, "repair", name, reason="test")
        elif stage == "complete":
            traffic(db, n, (2,))
            break
        # Nobody but the mirror writes V1 in rampdown: complete counts who does.
        traffic(db, n + 10, (2,) if stage == "rampdown" else (1, 2))
        equal(db)
        for name in PAIRS:
            for side in (1, 2):
                assert call(db, "check_conversion", name, side)["violations"] == []
    for name in PAIRS:
        backfill(db, name, "v2_to_v1")
        traffic(db, 20 + PAIRS.index(name), (2,))
    for name in PAIRS:
        for _ in range(9):
            if call(db, "repair", name, follower_only="delete", reason="test")["remaining"] == 0:
                break
        verify(db, name)
        verify(db, name)
    call(db, "set_group_stage", "posts", "rampdown", "test")
    equal(db)
    for n, stage in enumerate(("live", "shadow", "dualwrite", "off"), 30):
        call(db, "set_group_stage", "threads", stage, "test")
        if stage != "off":
            traffic(db, n)
            assert equal(db) > 200


LACKS = {
    "title text": "has no place for it, so a row of V2 has none in V1; run: alter table "
    "public.threads_v2 add column legacy_id integer unique default "
    "nextval('public.threads_id_seq')",
    "title text, legacy_id integer unique": "a row that V2 clients make has none; run: alter table "
    "public.threads_v2 alter column legacy_id set default nextval('public.threads_id_seq')",
    "title text, legacy_id serial unique": "does not take it from public.threads_id_seq",
    "title text, legacy_id integer unique default nextval('public.threads_id_seq')": "what it is "
    "where legacy_id is null; run: alter table public.threads_v2 alter column legacy_id set not "
    "null",
    "title text, legacy_id integer not null unique default nextval('public.threads_id_seq')": "",
}


@pytest.mark.parametrize("columns", LACKS)
def test_what_a_v2_lacks_for_the_carried_key_is_asked(db: Connection, columns: str) -> None:
    db.execute("create table public.threads (id integer generated always as identity primary key, "
               "title text); insert into public.threads (title) values ('a')")  # fmt: skip
    carry(db, "public.threads")
    db.execute(f"create table public.threads_v2 (id uuid primary key, {columns})")
    made = draft(db, "threads", "public.threads", "public.threads_v2")
    if not LACKS[columns]:
        adopt(db, made)
        assert call(db, "check_conversion", "threads", 1)["violations"] == []
        return
    (asked,) = [text for text in made.undecided if text.startswith("to_v1, id: ")]
    assert LACKS[columns] in asked
    if "run: " in asked:
        db.execute(asked.split("run: ")[1].encode())
        again = draft(db, "threads", "public.threads", "public.threads_v2").undecided
        assert asked not in again


def test_a_child_that_keeps_its_key_looks_its_parent_up(db: Connection) -> None:
    db.execute(WORLD)
    db.execute("create policy \"In my threads\" on public.posts to authenticated using "
               "(thread_id in (select t.id from public.threads t))")  # fmt: skip
    db.execute("alter table public.posts add constraint real check (thread_id > 0)")
    carry(db, "public.threads")
    adopt(db, draft(db, "threads", "public.threads"))
    posts = table(db, "public.posts")
    made = new_pair("posts", posts, None, stamp=STAMP)
    assert [text.split(":")[0] for text in made.undecided] == [
        "public.posts_v2, constraint real", "public.posts_v2, policy In my threads",
    ]  # fmt: skip
    assert made.edge == ("toV2, thread_id", "toV1, thread_id")
    db.execute('drop policy "In my threads" on public.posts')
    db.execute("alter table public.posts drop constraint real")
    adopt(db, new_pair("posts", table(db, "public.posts"), None, stamp=STAMP))
    for name in PAIRS:
        call(db, "set_stage", name, "dualwrite", "test")
        backfill(db, name)
    db.execute("with t as (insert into public.threads_v2 (title, owner_id) values "
               f"('new', '{ADA}') returning id) insert into public.posts_v2 (thread_id, owner_id) "
               f"select t.id, '{ADA}' from t")  # fmt: skip
    assert failures(db) == []
    pairs = (
        "select count(*) from public.posts p join public.threads t on t.id = p.thread_id "
        "join public.posts_v2 q on q.id = p.id and q.thread_id = t.uid"
    )
    assert rows(db, pairs) == [(201,)]

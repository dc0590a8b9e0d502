-- Threads with posts, two pairs that foreign keys tie together on both sides. <<name>> is filled in
-- by tree.py: V2's threads have wider keys, or uuids that V1 carries.
create table public.threads (
  id integer primary key,
  <<carried>>
  birth text not null,
  title text,
  log1 text[] not null default '{}',
  log2 text[] not null default '{}'
);
create table public.posts (
  id bigint primary key,
  thread_id integer not null references public.threads on delete cascade on update cascade,
  birth text not null,
  title text,
  log1 text[] not null default '{}',
  log2 text[] not null default '{}'
);
create table public.threads_v2 (
  id <<key>> primary key,
  <<kept>>
  birth text not null,
  title text,
  log1 text[] not null default '{}',
  log2 text[] not null default '{}',
  log_x text[] not null default '{}'
);
create table public.posts_v2 (
  id bigint primary key,
  thread_id <<type>> not null references public.threads_v2 on delete cascade on update cascade,
  birth text not null,
  title text,
  log1 text[] not null default '{}',
  log2 text[] not null default '{}',
  log_x text[] not null default '{}'
);
create index on public.posts (thread_id);
create index on public.posts_v2 (thread_id);

create function public.threads_to_v2(a public.threads, o public.threads_v2)
returns setof public.threads_v2 language sql stable set search_path = pg_catalog, pg_temp as $$
  select <<keys_v2>>, a.birth, a.title, a.log1, a.log2, coalesce(o.log_x, '{}')
$$;
create function public.threads_to_v1(b public.threads_v2, o public.threads)
returns setof public.threads language sql stable set search_path = pg_catalog, pg_temp as $$
  select <<keys_v1>>, b.birth, b.title, b.log1, b.log2 <<unless_beyond>>
$$;
create function public.posts_to_v2(a public.posts, o public.posts_v2)
returns setof public.posts_v2 language sql stable set search_path = pg_catalog, pg_temp as $$
  select a.id, <<parent_v2>>, a.birth, a.title, a.log1, a.log2, coalesce(o.log_x, '{}')
$$;
create function public.posts_to_v1(b public.posts_v2, o public.posts)
returns setof public.posts language sql stable set search_path = pg_catalog, pg_temp as $$
  select b.id, <<parent_v1>>, b.birth, b.title, b.log1, b.log2 <<unless_parent_beyond>>
$$;

create schema tree;
create table tree.txns (token text primary key);
-- Who wrote what; seq orders the writes of one row, because it is taken while the row is locked.
create table tree.audit (
  seq bigint generated always as identity primary key,
  source text not null,
  tab text not null,
  op text not null,
  archived boolean not null,
  old jsonb,
  new jsonb,
  transaction xid8 default pg_current_xact_id(),
  -- For people who read what went wrong.
  statement text default left(current_query(), 160)
);
create function tree.audit_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_context text;
  v_caller text;
begin
  get diagnostics v_context = pg_context;
  -- The first frame is this function; the next function is who wrote, but for the view's.
  v_caller := substring(left(v_context, 20000) from
    E'\n(?:PL/pgSQL|SQL) function "?(?!crossfade_private\\.view_\\w+_write)([a-z0-9_.]+)');
  insert into tree.audit (source, tab, op, archived, old, new)
  values (
    case when v_caller ~ '^crossfade(_private)?\.' then 'engine' else 'client' end,
    tg_argv[0], left(tg_op, 1), tg_argv[0] not like '%\_v2' and exists (
      select from crossfade_private.mirror_state m
      where m.pair = tg_argv[0] and m.mirror in ('archived', 'reverse')),
    case when tg_op <> 'INSERT' then to_jsonb(old) end,
    case when tg_op <> 'DELETE' then to_jsonb(new) end);
  return null;
end $$;
create function tree.audit_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  execute format('insert into tree.audit (source, tab, op, archived, old)
    select ''client'', %L, ''D'', false, to_jsonb(t) from %I.%I t',
    tg_argv[0], tg_table_schema, tg_table_name);
  return null;
end $$;
create trigger a_audit_truncate before truncate on public.posts
for each statement execute function tree.audit_truncate('posts');
create trigger a_audit_truncate before truncate on public.posts_v2
for each statement execute function tree.audit_truncate('posts_v2');
create trigger a_audit after insert or update or delete on public.threads
for each row execute function tree.audit_row('threads');
create trigger a_audit after insert or update or delete on public.posts
for each row execute function tree.audit_row('posts');
create trigger a_audit after insert or update or delete on public.threads_v2
for each row execute function tree.audit_row('threads_v2');
create trigger a_audit after insert or update or delete on public.posts_v2
for each row execute function tree.audit_row('posts_v2');

-- One look at everything. The names come as text: a function that names V1 may bar stage complete.
create function tree.peek(after bigint, names text[]) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  v_rows jsonb := '{}';
  v_found jsonb;
  v_name text;
begin
  foreach v_name in array names loop
    execute format('select coalesce(jsonb_agg(to_jsonb(t)), ''[]'') from public.%I t', v_name)
    into v_found;
    v_rows := v_rows || jsonb_build_object(v_name, v_found);
  end loop;
  return v_rows || jsonb_build_object(
    'audit', (
      select coalesce(
        jsonb_agg(to_jsonb(a) - 'statement' order by a.seq), '[]')
      from tree.audit a where a.seq > peek.after),
    'failures', (select coalesce(jsonb_agg(to_jsonb(f)), '[]') from crossfade.mirror_failures f
      where f.resolved_at is null));
end $$;

-- The engine's longer works, as one call each.
create function tree.backfill(pair text, direction text) returns text language plpgsql as $$
declare
  v_run bigint := (crossfade.start_backfill(pair, direction) -> 'run' ->> 'id')::bigint;
  v_answer jsonb;
begin
  for i in 1..50 loop
    v_answer := crossfade.backfill_batch(v_run);
    exit when v_answer ->> 'state' <> 'running';
  end loop;
  return v_answer ->> 'state';
end $$;
create function tree.verify(pair text) returns bigint language plpgsql as $$
declare
  v_run bigint := (crossfade.start_verify(pair) -> 'run' ->> 'id')::bigint;
  v_answer jsonb;
begin
  for i in 1..50 loop
    v_answer := crossfade.verify_batch(v_run);
    exit when v_answer ->> 'state' <> 'running';
  end loop;
  return (v_answer -> 'run' ->> 'mismatches')::bigint;
end $$;
update crossfade.settings as s set value = w.value::jsonb
from (values
  ('batch_max_rows', '60'), ('batch_min_rows', '5'), ('batch_first_rows', '20'),
  ('shadow_min_reads', '0'), ('stage_bake_s', '0')
) as w (name, value)
where s.name = w.name;
update crossfade.settings set value = to_jsonb(least(100000, maximum))
where name like 'throttle%';

-- What the soak itself writes down, in the transaction that it describes.
create schema soak;
grant usage on schema soak to authenticated, service_role;

-- Written as the last statement of every transaction: whether it is there is whether it committed.
create table soak.txns (token text primary key);
grant insert on soak.txns to authenticated, service_role;

-- Nothing is mirrored: the pair is in stage off, again or still.
create function soak.is_off() returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from crossfade_private.mirror_state m where m.mirror = 'off')
$$;

-- seq orders the writes of one row, because it is taken while the row is locked.
create table soak.audit (
  seq bigint generated always as identity primary key,
  source text not null,
  side integer not null,
  op text not null,
  who text,
  old jsonb,
  new jsonb,
  -- V1 is an archive: V2 does not follow what foreign keys do to it, nor what its own triggers do
  -- to rows that the engine brings back.
  archived boolean not null default false,
  unmirrored boolean not null default soak.is_off(),
  -- For people who read what went wrong.
  transaction xid8 default pg_current_xact_id(),
  statement text default left(current_query(), 160)
);
grant insert on soak.audit to authenticated, service_role;

-- Rows that refer to V2; a counterpart that is deleted and inserted anew would lose them.
create table soak.clips (
  id bigint generated always as identity primary key,
  birth text not null,
  <<columns_clips>>
);

-- The first key column of a world with partitions, of the second one.
create function soak.month_of(key bigint) returns timestamptz
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select make_timestamptz(2026, m.n::integer, 5, 12, 0, 0, 'UTC')
  from (select case when key between 40 and 99 then 5 else key % 4 + 1 end) m(n)
$$;

create function soak.is_archive(side integer) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select side = 1 and exists (
    select from crossfade_private.mirror_state m where m.mirror in ('archived', 'reverse'))
$$;

create function soak.who() returns text language sql stable set search_path = pg_catalog, pg_temp
as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' $$;

-- The tables come as arguments: a function that names V1 may keep the pair from stage complete.
create function soak.rows_of(tab regclass) returns json
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_rows json;
begin
  execute format('select coalesce(json_agg(to_jsonb(t)), ''[]'') from %s t', tab) into v_rows;
  return v_rows;
end $$;
create function soak.peek(after bigint, v1 regclass, v2 regclass) returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
  select json_build_object(
    'v1', soak.rows_of(v1),
    'v2', soak.rows_of(v2),
    'clips', (select coalesce(json_agg(to_jsonb(t)), '[]') from soak.clips t),
    'audit', (
      select coalesce(
        json_agg(to_jsonb(t) - 'transaction' - 'statement' order by t.seq), '[]')
      from soak.audit t where t.seq > peek.after),
    'failures', (select coalesce(json_agg(to_jsonb(f)), '[]') from crossfade.mirror_failures f)
  )::text
$$;

-- The engine's longer works, as one call each.
create function soak.backfill(direction text) returns text language plpgsql as $$
declare
  v_run bigint := (crossfade.start_backfill('notes', direction) -> 'run' ->> 'id')::bigint;
  v_answer jsonb;
begin
  for i in 1..50 loop
    v_answer := crossfade.backfill_batch(v_run);
    exit when v_answer ->> 'state' <> 'running';
  end loop;
  return v_answer ->> 'state';
end $$;
create function soak.verify() returns bigint language plpgsql as $$
declare
  v_run bigint := (crossfade.start_verify('notes') -> 'run' ->> 'id')::bigint;
  v_answer jsonb;
begin
  for i in 1..50 loop
    v_answer := crossfade.verify_batch(v_run);
    exit when v_answer ->> 'state' <> 'running';
  end loop;
  return (v_answer -> 'run' ->> 'mismatches')::bigint;
end $$;

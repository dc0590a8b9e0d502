-- Statements of batches and repairs that lock or write rows of the owner's tables.

create or replace function crossfade_private.write_rows(
  pieces jsonb, template text, first jsonb, last jsonb, keys jsonb[] default null
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Less than deadlock_timeout: the batch gives way before a client is chosen as the victim.
set lock_timeout = '500ms'
-- PostgreSQL keeps the new rows for the target's own triggers, and in a file beyond this.
set work_mem = '32MB'
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
  v_statement constant text := crossfade_private.render(template, pieces);
  v_rows bigint;
begin
  -- Triggers of the owner's fire in this statement, and may name their tables without a schema. The
  -- path ends with this function.
  perform set_config('search_path', pieces ->> 'target_path', true);
  execute v_statement using first, last, keys;
  get diagnostics v_rows = row_count;
  return v_rows;
end $$;

comment on function crossfade_private.write_rows is
  'Execute a template with first as $1, last as $2 and keys as $3; returns the rows written. Waits at most 0.5 s for a lock (55P03); uses up to some 32 MB.';

create or replace function crossfade_private.lock_keys(pieces jsonb, keys jsonb[])
returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_one jsonb[];
  v_two jsonb[];
  v_held jsonb[];
begin
  -- SKIP LOCKED: nobody is waited for, so nobody can wait for us in a circle.
  execute crossfade_private.render($sql$
    select array_agg(l.cf_key) from (
      select {skey_json_s} as cf_key from unnest($1) cf_z(key)
      join {source} cf_s on ({skey_s}) = ({skey_z})
      order by {skey_s} for no key update of cf_s skip locked) l
  $sql$, pieces) into v_one using keys;
  execute crossfade_private.render($sql$
    select array_agg(l.cf_key) from (
      select {tkey_json_t} as cf_key from unnest($1) cf_z(key)
      join {target} cf_t on ({tkey_t}) = ({skey_z})
      order by {tkey_t} for no key update of cf_t skip locked) l
  $sql$, pieces) into v_two using keys;
  -- Rows that are there and were not locked are somebody else's at this moment.
  execute crossfade_private.render($sql$
    select array_agg(h.cf_key) from (
      (select {skey_json_s} from unnest($1) cf_z(key)
      join {source} cf_s on ({skey_s}) = ({skey_z}) except select unnest($2))
      union
      (select {tkey_json_t} from unnest($1) cf_z(key)
      join {target} cf_t on ({tkey_t}) = ({skey_z}) except select unnest($3))) h(cf_key)
  $sql$, pieces) into v_held using keys, v_one, v_two;
  return coalesce(v_held, '{}');
end $$;

comment on function crossfade_private.lock_keys is
  'Lock both rows of each key, as far as nobody holds them; returns the keys that somebody does.';

-- Copying one batch of a backfill: all rows at once, and one by one when one of them is special.

create or replace function crossfade_private.copy_sql(
  range text, on_conflict text default 'on conflict ({target_key}) do nothing'
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- SAFETY: FOR SHARE holds off deletes and updates of these rows until the copy is committed; a
  -- newer counterpart is left alone (DO NOTHING) or raises. Without either, stale or deleted rows
  -- would appear.
  select replace(replace($sql$
    insert into {target} ({target_columns}) overriding system value
    select {tcolumns_c}
    from (
      select cf_s.* from {source} cf_s
      where <<range>>
      order by {skey_s} for share of cf_s
    ) cf_n
    cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
    <<on_conflict>>
  $sql$, '<<range>>', range), '<<on_conflict>>', on_conflict);
$outer$;

comment on function crossfade_private.copy_sql is
  'Template of the copying statement; range chooses the rows by $1 and $2, on_conflict is a clause or empty.';

create or replace function crossfade_private.is_free(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_free boolean;
begin
  execute crossfade_private.render($sql$
    select not exists (select from {target} cf_t
      where ($1 is null or ({tkey_t}) > ({skey_1})) and ({tkey_t}) <= ({skey_2}))
  $sql$, pieces) into v_free using after_key, boundary;
  return v_free;
end $$;

comment on function crossfade_private.is_free is
  'Whether the target has no row with a key in (after_key, boundary].';

create or replace function crossfade_private.copy_range(
  pieces jsonb, after_key jsonb, boundary jsonb, skips boolean
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
-- PostgreSQL keeps the new rows for the target's own triggers, and in a file beyond this.
set work_mem = '32MB'
as $$
declare
  v_written bigint;
  v_special boolean;
begin
  execute crossfade_private.render(crossfade_private.copy_sql(
    '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})',
    case when skips then 'on conflict ({target_key}) do nothing' else '' end), pieces)
  using after_key, boundary;
  get diagnostics v_written = row_count;
  -- Order matters: look after the copy has waited for every writer of these keys. A failure that
  -- names the target as the written side may be a delete that the copy would undo.
  execute crossfade_private.render($sql$
    select exists (
      select from crossfade.mirror_failures cf_z
      where cf_z.pair = {pair_literal} and cf_z.resolved_at is null and cf_z.written_side = {other}
        and ($1 is null or ({skey_z}) > ({skey_1})) and ({skey_z}) <= ({skey_2}))
  $sql$, pieces) into v_special using after_key, boundary;
  if v_special then
    raise exception using errcode = 'CF019', message = 'a key of the batch is to be repaired';
  end if;
  return v_written;
end $$;

comment on function crossfade_private.copy_range is
  'Copy the rows with keys in (after_key, boundary] that the target lacks. Locks those source rows FOR SHARE; waits at most 5 s for a row; uses up to some 32 MB. 23505 when it has one after all and skips is false, CF019 when repair owes the source a key among them.';

create or replace function crossfade_private.copy_singly(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
  v_key jsonb;
  v_added bigint;
  v_written bigint := 0;
begin
  for v_key in execute crossfade_private.render($sql$
    select {skey_json_s} from {source} cf_s
    where ($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})
      and not exists (select from {target} cf_t where ({tkey_t}) = ({skey_s}))
    order by {skey_s}
  $sql$, pieces) using after_key, boundary
  loop
    begin
      execute crossfade_private.render(
        crossfade_private.copy_sql('({skey_s}) = ({skey_1}) and $2 is null'), pieces)
      using v_key, null::jsonb;
      get diagnostics v_added = row_count;
      if exists (select from crossfade.mirror_failures f
        where f.pair = pieces ->> 'pair' and f.key = v_key and f.resolved_at is null
          and f.written_side = (pieces ->> 'other')::integer) then
        raise exception using errcode = 'CF019', message = 'the key is to be repaired';
      end if;
      v_written := v_written + v_added;
    exception
      when sqlstate 'CF019' then
        null; -- Repair will do what the failure says.
      when others then
        if crossfade_private.is_transient(sqlstate) then
          raise;
        end if;
        -- DO NOTHING: a failure that is open already may name the other side, and then it is right.
        insert into crossfade.mirror_failures (pair, written_side, key, operation, error_code,
          message)
        values (pieces ->> 'pair', (pieces ->> 'side')::smallint, v_key, 'BACKFILL', sqlstate,
          left(sqlerrm, 500))
        on conflict (pair, key) where resolved_at is null do nothing;
    end;
  end loop;
  return v_written;
end $$;

comment on function crossfade_private.copy_singly is
  'Copy as copy_range does, row by row: what the target refuses becomes an open mirror failure, what repair owes the source is left to repair.';

create or replace function crossfade_private.copy_batch(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_skips boolean;
begin
  -- Without ON CONFLICT a row costs one index search and one WAL record less. A counterpart that
  -- is written meanwhile raises, and the second try leaves it alone.
  foreach v_skips in array array[false, true] loop
    continue when not v_skips and not crossfade_private.is_free(pieces, after_key, boundary);
    begin
      return crossfade_private.copy_range(pieces, after_key, boundary, v_skips);
    exception when others then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
    end;
  end loop;
  return crossfade_private.copy_singly(pieces, after_key, boundary);
end $$;

comment on function crossfade_private.copy_batch is
  'Copy a batch; one row that cannot be copied neither stops the run nor goes unnoticed. Returns the rows written.';

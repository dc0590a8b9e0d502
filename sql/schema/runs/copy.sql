-- Copying one batch of a backfill: all rows at once, in smaller parts when one of them is special.

create or replace function crossfade_private.copy_sql(
  range text, on_conflict text default 'on conflict ({target_key}) do nothing',
  excluded text default ''
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- SAFETY: FOR SHARE holds off deletes and updates of these rows until the copy is committed; a
  -- newer counterpart is left alone (DO NOTHING) or raises. Without either, stale or deleted rows
  -- would appear.
  select replace(replace(replace($sql$
    insert into {target} ({target_columns}) overriding system value
    select {tcolumns_c}
    from (
      select cf_s.* from {source} cf_s
      where <<range>> <<excluded>>
      order by {skey_s} for share of cf_s
    ) cf_n
    cross join lateral {convert} row(cf_n.*)::{source} {with} null::{target} {converted} cf_c
    <<on_conflict>>
  $sql$, '<<range>>', range), '<<on_conflict>>', on_conflict), '<<excluded>>', excluded);
$outer$;

comment on function crossfade_private.copy_sql is
  'Template of the copying statement; range chooses the rows by $1 and $2, on_conflict is a clause or empty, excluded a further condition.';

create or replace function crossfade_private.owed_sql(key_sql text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $outer$
  -- Rows are turned into keys, and not keys into values of the table: that may hold fewer.
  select replace($sql$exists (
      select from crossfade.mirror_failures cf_f
      where cf_f.pair = {pair_literal} and <<key>> in (cf_f.key, cf_f.moved_to)
        and cf_f.resolved_at is null
        and (cf_f.written_side = {other} or cf_f.moved_to is not null))$sql$, '<<key>>', key_sql);
$outer$;

comment on function crossfade_private.owed_sql is
  'Template: whether an open failure says that the target is the side that was written, and so what the source will become; or that the row of the key has its counterpart under another one.';

create or replace function crossfade_private.is_free(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
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

create or replace function crossfade_private.owes_source(pieces jsonb)
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from crossfade.mirror_failures f
    where f.pair = pieces ->> 'pair' and f.resolved_at is null
      and (f.written_side = (pieces ->> 'other')::integer or f.moved_to is not null));
$$;

comment on function crossfade_private.owes_source is
  'Whether repair owes the source anything: open failures that name the target as the written side, or a counterpart that could not follow a changed key.';

create or replace function crossfade_private.copy_range(
  pieces jsonb, range text, after_key jsonb, boundary jsonb, skips boolean
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_written bigint := crossfade_private.write_rows(pieces, crossfade_private.copy_sql(range,
    case when skips then 'on conflict ({target_key}) do nothing' else '' end,
    case when crossfade_private.owes_source(pieces)
      then 'and not ' || crossfade_private.owed_sql('{skey_json_s}') else '' end),
    after_key, boundary);
  v_special boolean;
begin
  -- Order matters: look after the copy has waited for every writer of these keys. A failure that
  -- names the target as the written side may be a delete that the copy would undo.
  if v_written > 0 and crossfade_private.owes_source(pieces) then
    execute crossfade_private.render(format($sql$
      select exists (
        select from {source} cf_s where %s and %s
          and exists (select from {target} cf_t where ({tkey_t}) = ({skey_s})
            and crossfade_private.is_of_this_transaction(cf_t.xmin)))
    $sql$, range, crossfade_private.owed_sql('{skey_json_s}')), pieces)
    into v_special using after_key, boundary;
    if v_special then
      raise exception using errcode = 'CF019', message = 'a key of the batch is to be repaired';
    end if;
  end if;
  return v_written;
end $$;

comment on function crossfade_private.copy_range is
  'Copy the rows of a range that the target lacks, but for those that repair owes the source. Locks those source rows FOR SHARE. 23505 when the target has one after all and skips is false, CF019 when repair has come to owe the source a key among them meanwhile.';

create or replace function crossfade_private.copy_keys(
  pieces jsonb, after_key jsonb, keys jsonb[]
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size constant integer := cardinality(keys);
  v_step constant integer := greatest(1, v_size / 16);
  v_written bigint := 0;
begin
  if v_size = 0 then
    return 0;
  end if;
  begin
    return crossfade_private.copy_range(pieces, case v_size when 1
      then '({skey_s}) = ({skey_2}) and $1 is null'
      else '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})' end,
      case when v_size > 1 then after_key end, keys[v_size], true);
  exception
    when sqlstate 'CF019' then
      null; -- Repair will do what the failure says.
    when others or assert_failure then
      if crossfade_private.is_transient(sqlstate) then
        raise;
      end if;
      if v_size = 1 then
        -- DO NOTHING: a failure that is open already may name the other side, and then it is right.
        insert into crossfade.mirror_failures (pair, written_side, key, operation, error_code,
          message)
        values (pieces ->> 'pair', (pieces ->> 'side')::smallint, keys[1], 'BACKFILL', sqlstate,
          left(sqlerrm, 500))
        on conflict (pair, key) where resolved_at is null do nothing;
      end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for v_at in 1..case when v_size > 1 then v_size else 0 end by v_step loop
    v_written := v_written + crossfade_private.copy_keys(pieces,
      case v_at when 1 then after_key else keys[v_at - 1] end, keys[v_at : v_at + v_step - 1]);
  end loop;
  return v_written;
end $$;

comment on function crossfade_private.copy_keys is
  'Copy the rows of these keys, which follow after_key without a gap: all at once, then in sixteenths, then one by one. What the target refuses becomes an open mirror failure, what repair owes the source is left to repair.';

create or replace function crossfade_private.copy_batch(
  pieces jsonb, after_key jsonb, boundary jsonb
)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_skips boolean := not crossfade_private.is_free(pieces, after_key, boundary);
begin
  -- Without ON CONFLICT a row costs one index search and one WAL record less. A counterpart that
  -- is written meanwhile raises, and the second try leaves it alone.
  begin
    return crossfade_private.copy_range(pieces,
      '($1 is null or ({skey_s}) > ({skey_1})) and ({skey_s}) <= ({skey_2})', after_key, boundary,
      v_skips);
  exception when others or assert_failure then
    if crossfade_private.is_transient(sqlstate) then
      raise;
    end if;
  end;
  return crossfade_private.copy_keys(pieces, after_key,
    crossfade_private.range_keys(pieces, after_key, boundary, false));
end $$;

comment on function crossfade_private.copy_batch is
  'Copy a batch; one row that cannot be copied neither stops the run nor goes unnoticed. Returns the rows written.';

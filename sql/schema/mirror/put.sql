-- The text of the function that makes whole counterparts: of inserted rows that the one statement
-- of the INSERT trigger did not settle, and of rows that came back while they were deleted.

create or replace function crossfade_private.mirror_put_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: whole counterparts of rows of V{side}, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_rows);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_written bigint;
  cf_taken jsonb;
  cf_constraint text;
begin
  if cf_size = 0 then
    return;
  end if;
  begin
    if current_setting('transaction_isolation') <> 'read committed' then
      -- 40001 where the snapshot shows a row that another transaction has deleted since.
      perform from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}
      for no key update of cf_t;
    end if;
    -- New rows have none as a rule.
    if exists (select from unnest(cf_rows) cf_r join {target} cf_t on {same_key_t_r}) then
      if not cf_is_whole then
        {refuse_taken}
      end if;
      update {target} cf_t set {whole}
      from unnest(cf_rows) cf_r
      join {source} cf_s on {same_key_s_r}
      where {same_key_t_s} and (cf_is_whole or {written_beside})
        and exists (select from lateral {convert} cf_c where {differs});
      get diagnostics cf_written = row_count;
      if cf_written < cf_size and exists (
          select from unnest(cf_rows) cf_r
          join {source} cf_s on {same_key_s_r}
          join {target} cf_t on {same_key_t_s}
          cross join lateral {convert} cf_c
          where {differs}) then
        {raise_dropped}
      end if;
    end if;
    insert into {target} ({target_columns}) overriding system value
    select {made_columns}
    from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s});
    perform from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s});
    if found then
      {raise_dropped}
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if sqlstate = '23505' and cf_constraint = any (array['crossfade_one_key'] || {target_key_names})
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, cf_operation, sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_put(cf_rows[cf_at : cf_at + cf_step - 1], cf_operation, cf_is_whole);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_put_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_put(cf_rows, cf_operation, cf_is_whole): all rows at once, then in sixteenths, then one by one; what is refused is recorded. Where cf_is_whole, as its caller has read the state, rows that the other table had before are written over.';

create or replace function crossfade_private.refuse_taken_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select {key_json_s} into cf_taken
    from unnest(cf_rows) cf_r
    join {source} cf_s on {same_key_s_r}
    join {target} cf_t on {same_key_t_s}
    cross join lateral {convert} cf_c
    where not {written_beside} and ({differs})
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, {target_literal});
    end if;$body$;
$text$;

comment on function crossfade_private.refuse_taken_text is
  'The part of the texts for INSERT that raises 23505 (constraint crossfade_one_key) where the other table has a row with the key that is not made of the inserted one.';

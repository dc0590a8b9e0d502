CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_put(cf_rows with_from.notes_v2[], cf_operation text, cf_is_whole boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'with_from', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": whole counterparts of rows of V2, read again by their keys.
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
      perform from unnest(cf_rows) cf_r join with_from.notes cf_t on (cf_t).id = (cf_r).id
      for no key update of cf_t;
    end if;
    -- New rows have none as a rule.
    if exists (select from unnest(cf_rows) cf_r join with_from.notes cf_t on (cf_t).id = (cf_r).id) then
      if not cf_is_whole then
        -- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select jsonb_build_object('id', cf_s.id) into cf_taken
    from unnest(cf_rows) cf_r
    join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    join with_from.notes cf_t on (cf_t).id = (cf_s).id
    cross join lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c
    where not crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin) and ((cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (cf_t).labels collate pg_catalog."C" is distinct from cf_c.labels)
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, 'with_from.notes');
    end if;
      end if;
      update with_from.notes cf_t set (body, labels) = (select cf_c.body, cf_c.labels from lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c)
      from unnest(cf_rows) cf_r
      join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
      where (cf_t).id = (cf_s).id and (cf_is_whole or crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin))
        and exists (select from lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c where (cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (cf_t).labels collate pg_catalog."C" is distinct from cf_c.labels);
      get diagnostics cf_written = row_count;
      if cf_written < cf_size and exists (
          select from unnest(cf_rows) cf_r
          join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
          join with_from.notes cf_t on (cf_t).id = (cf_s).id
          cross join lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c
          where (cf_t).body collate pg_catalog."C" is distinct from cf_c.body or (cf_t).labels collate pg_catalog."C" is distinct from cf_c.labels) then
        raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes dropped a mirrored write';
      end if;
    end if;
    insert into with_from.notes (id, body, labels) overriding system value
    select cf_c.id, cf_c.body, cf_c.labels
    from unnest(cf_rows) cf_r
    join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c
    where not exists (select from with_from.notes cf_t where (cf_t).id = (cf_s).id);
    perform from unnest(cf_rows) cf_r
    join with_from.notes_v2 cf_s on (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).id)::uuid as id, ((cf_s).body)::text as body, (( SELECT string_agg(l.label, ','::text ORDER BY l.number) AS string_agg
            FROM jsonb_array_elements_text((cf_s).labels) WITH ORDINALITY l(label, number)))::text as labels) cf_c
    where not exists (select from with_from.notes cf_t where (cf_t).id = (cf_s).id);
    if found then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes dropped a mirrored write';
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if sqlstate = '23505' and cf_constraint = any (array['crossfade_one_key'] || '{notes_pkey}'::text[])
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        'notes', 2, jsonb_build_object('id', (cf_rows[1]).id), cf_operation, sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v2_put(cf_rows[cf_at : cf_at + cf_step - 1], cf_operation, cf_is_whole);
  end loop;
end $function$

CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_put(cf_rows settled.notes[], cf_operation text, cf_is_whole boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": whole counterparts of rows of V1, read again by their keys.
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
      perform from unnest(cf_rows) cf_r join settled.notes_v2 cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page
      for no key update of cf_t;
    end if;
    -- New rows have none as a rule.
    if exists (select from unnest(cf_rows) cf_r join settled.notes_v2 cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page) then
      if not cf_is_whole then
        -- SAFETY: a row that only the other table had is somebody else's, whoever has edited
    -- it since. Writing over it would hand it to whoever inserted this one. A counterpart that a
    -- trigger has already made of this row does not differ.
    select jsonb_build_object('book', cf_s.book, 'page', cf_s.page) into cf_taken
    from unnest(cf_rows) cf_r
    join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    join settled.notes_v2 cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
    cross join lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c
    where not crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin) and ((row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_t).body is distinct from cf_c.body or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_t).updated_at is distinct from cf_c.updated_at or (cf_t).edits is distinct from cf_c.edits)
    limit 1;
    if cf_taken is not null then
      raise exception using errcode = '23505', constraint = 'crossfade_one_key',
        message = format('duplicate key %s: %s has a row with it', cf_taken, 'settled.notes_v2');
    end if;
      end if;
      update settled.notes_v2 cf_t set (body, updated_at, edits) = (select cf_c.body, cf_c.updated_at, cf_c.edits from lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c)
      from unnest(cf_rows) cf_r
      join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
      where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page and (cf_is_whole or crossfade_private.is_written_beside(cf_t.xmin, cf_t.cmin, cf_s.cmin))
        and exists (select from lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c where (row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_t).body is distinct from cf_c.body or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_t).updated_at is distinct from cf_c.updated_at or (cf_t).edits is distinct from cf_c.edits);
      get diagnostics cf_written = row_count;
      if cf_written < cf_size and exists (
          select from unnest(cf_rows) cf_r
          join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
          join settled.notes_v2 cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
          cross join lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c
          where (row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_t).body is distinct from cf_c.body or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_t).updated_at is distinct from cf_c.updated_at or (cf_t).edits is distinct from cf_c.edits) then
        raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes_v2 dropped a mirrored write';
      end if;
    end if;
    insert into settled.notes_v2 (page, book, body, updated_at, edits) overriding system value
    select cf_c.page, cf_c.book, cf_c.body, cf_c.updated_at, cf_c.edits
    from unnest(cf_rows) cf_r
    join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((null::settled.notes_v2).edits, 0))::integer as edits) cf_c
    where not exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page);
    perform from unnest(cf_rows) cf_r
    join settled.notes cf_s on (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((null::settled.notes_v2).edits, 0))::integer as edits) cf_c
    where not exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page);
    if found then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes_v2 dropped a mirrored write';
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if sqlstate = '23505' and cf_constraint = any (array['crossfade_one_key'] || '{notes_v2_pkey}'::text[])
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        'notes', 1, jsonb_build_object('book', (cf_rows[1]).book, 'page', (cf_rows[1]).page), cf_operation, sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  -- One bad row of 20,000 costs some 60 subtransactions this way, and is the only one left out.
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v1_put(cf_rows[cf_at : cf_at + cf_step - 1], cf_operation, cf_is_whole);
  end loop;
end $function$

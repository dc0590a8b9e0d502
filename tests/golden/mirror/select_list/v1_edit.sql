CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_edit(cf_olds select_list.notes[], cf_news select_list.notes[], cf_nested boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'select_list', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V1, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows select_list.notes[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    update select_list.notes_v2 cf_t set parts = case when (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body then ((jsonb_build_array((cf_s).body))::jsonb)::jsonb else (cf_t).parts end, tag = case when (cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag then (pg_catalog."varchar"(((cf_s).tag)::character varying, 24, false))::character varying else (cf_t).tag end
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join select_list.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).id = (cf_s).id and (((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (row(((cf_t).parts)::jsonb)::record operator(pg_catalog.*<>) row((((jsonb_build_array((cf_s).body))::jsonb)::jsonb)::jsonb)::record and ((cf_t).parts is distinct from ((jsonb_build_array((cf_s).body))::jsonb)::jsonb or ((cf_t).parts)::jsonb::text collate pg_catalog."C" is distinct from (((jsonb_build_array((cf_s).body))::jsonb)::jsonb)::jsonb::text)) or ((cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag) and (cf_t).tag collate pg_catalog."C" is distinct from (pg_catalog."varchar"(((cf_s).tag)::character varying, 24, false))::character varying);
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join select_list.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join select_list.notes_v2 cf_t on (cf_t).id = (cf_s).id
        where ((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (row(((cf_t).parts)::jsonb)::record operator(pg_catalog.*<>) row((((jsonb_build_array((cf_s).body))::jsonb)::jsonb)::jsonb)::record and ((cf_t).parts is distinct from ((jsonb_build_array((cf_s).body))::jsonb)::jsonb or ((cf_t).parts)::jsonb::text collate pg_catalog."C" is distinct from (((jsonb_build_array((cf_s).body))::jsonb)::jsonb)::jsonb::text)) or ((cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag) and (cf_t).tag collate pg_catalog."C" is distinct from (pg_catalog."varchar"(((cf_s).tag)::character varying, 24, false))::character varying) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of select_list.notes_v2 dropped a mirrored write';
    end if;
    delete from select_list.notes_v2 cf_t
    using unnest(cf_news) cf_r
    where (cf_t).id = (cf_r).id and not exists (
      select from select_list.notes cf_s
      where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_s).id)::bigint as id, (jsonb_build_array((cf_s).body))::jsonb as parts, pg_catalog."varchar"(((cf_s).tag)::character varying, 24, false) as tag, (COALESCE((cf_t).pinned, false))::boolean as pinned, (0)::integer as size) cf_c));
    
    insert into select_list.notes_v2 (id, parts, tag, pinned) overriding system value
    select cf_c.id, cf_c.parts, cf_c.tag, cf_c.pinned
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join select_list.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).id)::bigint as id, (jsonb_build_array((cf_s).body))::jsonb as parts, pg_catalog."varchar"(((cf_s).tag)::character varying, 24, false) as tag, (COALESCE((null::select_list.notes_v2).pinned, false))::boolean as pinned, (0)::integer as size) cf_c
    where not exists (select from select_list.notes_v2 cf_t where (cf_t).id = (cf_s).id)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('id', cf_s.id) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral (select ((cf_o).id)::bigint as id, (jsonb_build_array((cf_o).body))::jsonb as parts, pg_catalog."varchar"(((cf_o).tag)::character varying, 24, false) as tag, (COALESCE((null::select_list.notes_v2).pinned, false))::boolean as pinned, (0)::integer as size) cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind('notes') then
      perform crossfade_private.note_behind('notes', 1, 'UPDATE', array(
        select jsonb_build_object('id', cf_s.id)
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        cross join lateral (select (cf_n).*) cf_s
        where (cf_s).id = (cf_o).id));
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    -- A counterpart that was copied after the snapshot of this transaction was taken is not seen
    -- here.
    if sqlstate = '23505' and cf_constraint = any ('{notes_v2_pkey}'::text[])
        and current_setting('transaction_isolation') <> 'read committed'
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      cf_rows := cf_news;
      perform crossfade_private.refuse_or_record(
        'notes', 1, jsonb_build_object('id', (cf_rows[1]).id), 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v1_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $function$

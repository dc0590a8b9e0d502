CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_push(cf_olds select_list.notes_v2[], cf_news select_list.notes_v2[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'select_list', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": what triggers wrote into V1 under the old key comes back to V2.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join select_list.notes cf_t on (cf_t).id = (cf_r).id join select_list.notes_v2 cf_s on (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral (select ((cf_t).id)::bigint as id, (jsonb_build_array((cf_t).body))::jsonb as parts, pg_catalog."varchar"(((cf_t).tag)::character varying, 24, false) as tag, (COALESCE((cf_s).pinned, false))::boolean as pinned, (0)::integer as size) cf_c where (row(((cf_s).parts)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.parts)::jsonb)::record and ((cf_s).parts is distinct from cf_c.parts or ((cf_s).parts)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.parts)::jsonb::text)) or (cf_s).tag collate pg_catalog."C" is distinct from cf_c.tag or (cf_s).pinned is distinct from cf_c.pinned);
  update select_list.notes_v2 cf_s set (parts, tag, pinned) = (select cf_c.parts, cf_c.tag, cf_c.pinned from lateral (select ((cf_t).id)::bigint as id, (jsonb_build_array((cf_t).body))::jsonb as parts, pg_catalog."varchar"(((cf_t).tag)::character varying, 24, false) as tag, (COALESCE((cf_s).pinned, false))::boolean as pinned, (0)::integer as size) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join select_list.notes cf_t on (cf_t).id = (cf_r).id
  where (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_t).id)::bigint as id, (jsonb_build_array((cf_t).body))::jsonb as parts, pg_catalog."varchar"(((cf_t).tag)::character varying, 24, false) as tag, (COALESCE((cf_s).pinned, false))::boolean as pinned, (0)::integer as size) cf_c where (row(((cf_s).parts)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.parts)::jsonb)::record and ((cf_s).parts is distinct from cf_c.parts or ((cf_s).parts)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.parts)::jsonb::text)) or (cf_s).tag collate pg_catalog."C" is distinct from cf_c.tag or (cf_s).pinned is distinct from cf_c.pinned);
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of select_list.notes_v2 dropped a mirrored write';
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    'notes', 1, jsonb_build_object('id', cf_x.id), 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $function$

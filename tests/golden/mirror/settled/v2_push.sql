CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_push(cf_olds settled.notes_v2[], cf_news settled.notes_v2[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
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
  join settled.notes cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page join settled.notes_v2 cf_s on (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral (select ((cf_t).page)::integer as page, ((cf_t).book)::bigint as book, (to_jsonb((cf_t).body))::jsonb as body, ((cf_t).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_s).edits, 0))::integer as edits) cf_c where (row(((cf_s).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_s).body is distinct from cf_c.body or ((cf_s).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_s).updated_at is distinct from cf_c.updated_at or (cf_s).edits is distinct from cf_c.edits);
  update settled.notes_v2 cf_s set (body, updated_at, edits) = (select cf_c.body, cf_c.updated_at, cf_c.edits from lateral (select ((cf_t).page)::integer as page, ((cf_t).book)::bigint as book, (to_jsonb((cf_t).body))::jsonb as body, ((cf_t).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_s).edits, 0))::integer as edits) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join settled.notes cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page
  where (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_t).page)::integer as page, ((cf_t).book)::bigint as book, (to_jsonb((cf_t).body))::jsonb as body, ((cf_t).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_s).edits, 0))::integer as edits) cf_c where (row(((cf_s).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_s).body is distinct from cf_c.body or ((cf_s).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_s).updated_at is distinct from cf_c.updated_at or (cf_s).edits is distinct from cf_c.edits);
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes_v2 dropped a mirrored write';
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    'notes', 1, jsonb_build_object('book', cf_x.book, 'page', cf_x.page), 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $function$

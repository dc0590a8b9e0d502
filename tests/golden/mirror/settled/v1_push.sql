CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_push(cf_olds settled.notes[], cf_news settled.notes[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": what triggers wrote into V2 under the old key comes back to V1.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join settled.notes_v2 cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page join settled.notes cf_s on (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral (select ((cf_t).book)::bigint as book, ((cf_t).page)::integer as page, (((cf_t).body #>> '{}'::text[]))::text as body, ((cf_t).updated_at)::timestamp with time zone as updated_at) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body or (cf_s).updated_at is distinct from cf_c.updated_at);
  update settled.notes cf_s set (body, updated_at) = (select cf_c.body, cf_c.updated_at from lateral (select ((cf_t).book)::bigint as book, ((cf_t).page)::integer as page, (((cf_t).body #>> '{}'::text[]))::text as body, ((cf_t).updated_at)::timestamp with time zone as updated_at) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join settled.notes_v2 cf_t on (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page
  where (cf_s).book = (cf_t).book and (cf_s).page = (cf_t).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_t).book)::bigint as book, ((cf_t).page)::integer as page, (((cf_t).body #>> '{}'::text[]))::text as body, ((cf_t).updated_at)::timestamp with time zone as updated_at) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body or (cf_s).updated_at is distinct from cf_c.updated_at);
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes dropped a mirrored write';
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    'notes', 2, jsonb_build_object('book', cf_x.book, 'page', cf_x.page), 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $function$

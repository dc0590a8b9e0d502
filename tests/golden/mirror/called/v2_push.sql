CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_push(cf_olds called.notes_v2[], cf_news called.notes_v2[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'called', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
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
  join called.notes cf_t on (cf_t).id = (cf_r).id join called.notes_v2 cf_s on (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral called.notes_to_v2(cf_t, cf_s) cf_c where (row(((cf_s).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_s).body is distinct from cf_c.body or ((cf_s).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_s).seen is distinct from cf_c.seen);
  update called.notes_v2 cf_s set (body, seen) = (select cf_c.body, cf_c.seen from lateral called.notes_to_v2(cf_t, cf_s) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join called.notes cf_t on (cf_t).id = (cf_r).id
  where (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral called.notes_to_v2(cf_t, cf_s) cf_c where (row(((cf_s).body)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.body)::jsonb)::record and ((cf_s).body is distinct from cf_c.body or ((cf_s).body)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.body)::jsonb::text)) or (cf_s).seen is distinct from cf_c.seen);
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes_v2 dropped a mirrored write';
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

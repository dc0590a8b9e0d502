CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_push(cf_olds called.notes[], cf_news called.notes[])
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
-- crossfade 0.2.0: mirror of pair "notes": what triggers wrote into V2 under the old key comes back to V1.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join called.notes_v2 cf_t on (cf_t).id = (cf_r).id join called.notes cf_s on (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral called.notes_to_v1(cf_t, cf_s) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body);
  update called.notes cf_s set (body) = (select cf_c.body from lateral called.notes_to_v1(cf_t, cf_s) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join called.notes_v2 cf_t on (cf_t).id = (cf_r).id
  where (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral called.notes_to_v1(cf_t, cf_s) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body);
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes dropped a mirrored write';
  end if;
exception when others or assert_failure then
  get stacked diagnostics cf_constraint = constraint_name;
  if crossfade_private.is_transient(sqlstate) then
    raise;
  end if;
  perform crossfade_private.refuse_or_record(
    'notes', 2, jsonb_build_object('id', cf_x.id), 'MOVE', sqlstate, sqlerrm, cf_constraint)
  from unnest(cf_news) cf_x;
end $function$

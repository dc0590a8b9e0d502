CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_push(cf_olds with_from.notes_v2[], cf_news with_from.notes_v2[])
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
-- crossfade 0.2.0: mirror of pair "notes": what triggers wrote into V1 under the old key comes back to V2.
#variable_conflict use_column
declare
  cf_wanted bigint;
  cf_written bigint;
  cf_constraint text;
begin
  select count(*) into cf_wanted
  from unnest(cf_news) cf_r
  join with_from.notes cf_t on (cf_t).id = (cf_r).id join with_from.notes_v2 cf_s on (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
  where exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_t as cf_row, cf_s as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body or (row(((cf_s).labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and ((cf_s).labels is distinct from cf_c.labels or ((cf_s).labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text)));
  update with_from.notes_v2 cf_s set (body, labels) = (select cf_c.body, cf_c.labels from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_t as cf_row, cf_s as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c)
  from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_r) cf_q
  join with_from.notes cf_t on (cf_t).id = (cf_r).id
  where (cf_s).id = (cf_t).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_t as cf_row, cf_s as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c where (cf_s).body collate pg_catalog."C" is distinct from cf_c.body or (row(((cf_s).labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and ((cf_s).labels is distinct from cf_c.labels or ((cf_s).labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text)));
  get diagnostics cf_written = row_count;
  if cf_written < cf_wanted then
    raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes_v2 dropped a mirrored write';
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

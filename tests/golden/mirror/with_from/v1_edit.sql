CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_edit(cf_olds with_from.notes[], cf_news with_from.notes[], cf_nested boolean)
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
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V1, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows with_from.notes[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    update with_from.notes_v2 cf_t set (body, labels) = (select case when cf_b.body collate pg_catalog."C" is distinct from cf_c.body then cf_c.body else (cf_t).body end, case when (row((cf_b.labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and (cf_b.labels is distinct from cf_c.labels or (cf_b.labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text)) then cf_c.labels else (cf_t).labels end from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c left join lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_o as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_b on true)
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join with_from.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).id = (cf_s).id and (exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c left join lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_o as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_b on true where (cf_b.body collate pg_catalog."C" is distinct from cf_c.body) and (cf_t).body collate pg_catalog."C" is distinct from cf_c.body or ((row((cf_b.labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and (cf_b.labels is distinct from cf_c.labels or (cf_b.labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text))) and (row(((cf_t).labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and ((cf_t).labels is distinct from cf_c.labels or ((cf_t).labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text))));
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join with_from.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join with_from.notes_v2 cf_t on (cf_t).id = (cf_s).id
        where exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c left join lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_o as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_b on true where (cf_b.body collate pg_catalog."C" is distinct from cf_c.body) and (cf_t).body collate pg_catalog."C" is distinct from cf_c.body or ((row((cf_b.labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and (cf_b.labels is distinct from cf_c.labels or (cf_b.labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text))) and (row(((cf_t).labels)::jsonb)::record operator(pg_catalog.*<>) row((cf_c.labels)::jsonb)::record and ((cf_t).labels is distinct from cf_c.labels or ((cf_t).labels)::jsonb::text collate pg_catalog."C" is distinct from (cf_c.labels)::jsonb::text)))) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes_v2 dropped a mirrored write';
    end if;
    delete from with_from.notes_v2 cf_t
    using unnest(cf_news) cf_r
    where (cf_t).id = (cf_r).id and not exists (
      select from with_from.notes cf_s
      where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c));
    if exists (
        select from unnest(cf_news) cf_r
        join with_from.notes_v2 cf_t on (cf_t).id = (cf_r).id
        where not exists (
          select from with_from.notes cf_s
          where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, cf_t as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c))) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of with_from.notes_v2 dropped a mirrored write';
    end if;
    insert into with_from.notes_v2 (id, body, labels) overriding system value
    select cf_c.id, cf_c.body, cf_c.labels
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join with_from.notes cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_s as cf_row, null::with_from.notes_v2 as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_c
    where not exists (select from with_from.notes_v2 cf_t where (cf_t).id = (cf_s).id)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('id', cf_s.id) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral (select (cf_made.id)::uuid as id, (cf_made.body)::text as body, (cf_made.labels)::jsonb as labels from (select cf_o as cf_row, null::with_from.notes_v2 as cf_counterpart) cf_given
          cross join lateral (SELECT (cf_given.cf_row).id AS id,
     (cf_given.cf_row).body AS body,
     COALESCE(jsonb_agg(l.label ORDER BY l.number), '[]'::jsonb) AS "coalesce"
    FROM string_to_table((cf_given.cf_row).labels, ','::text) WITH ORDINALITY l(label, number)
   WHERE ((cf_given.cf_row).body <> ''::text)
  HAVING ((cf_given.cf_row).body <> ''::text)) cf_made(id, body, labels)) cf_b));
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

CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_edit(cf_olds called.notes_v2[], cf_news called.notes_v2[], cf_nested boolean)
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
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V2, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows called.notes_v2[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    update called.notes cf_t set (body) = (select case when cf_b.body collate pg_catalog."C" is distinct from cf_c.body then cf_c.body else (cf_t).body end from lateral called.notes_to_v1(cf_s, cf_t) cf_c left join lateral called.notes_to_v1(cf_o, cf_t) cf_b on true)
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join called.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).id = (cf_s).id and (exists (select from lateral called.notes_to_v1(cf_s, cf_t) cf_c left join lateral called.notes_to_v1(cf_o, cf_t) cf_b on true where (cf_b.body collate pg_catalog."C" is distinct from cf_c.body) and (cf_t).body collate pg_catalog."C" is distinct from cf_c.body));
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join called.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join called.notes cf_t on (cf_t).id = (cf_s).id
        where exists (select from lateral called.notes_to_v1(cf_s, cf_t) cf_c left join lateral called.notes_to_v1(cf_o, cf_t) cf_b on true where (cf_b.body collate pg_catalog."C" is distinct from cf_c.body) and (cf_t).body collate pg_catalog."C" is distinct from cf_c.body)) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes dropped a mirrored write';
    end if;
    delete from called.notes cf_t
    using unnest(cf_news) cf_r
    where (cf_t).id = (cf_r).id and not exists (
      select from called.notes_v2 cf_s
      where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral called.notes_to_v1(cf_s, cf_t) cf_c));
    if exists (
        select from unnest(cf_news) cf_r
        join called.notes cf_t on (cf_t).id = (cf_r).id
        where not exists (
          select from called.notes_v2 cf_s
          where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral called.notes_to_v1(cf_s, cf_t) cf_c))) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes dropped a mirrored write';
    end if;
    insert into called.notes (id, body) overriding system value
    select cf_c.id, cf_c.body
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join called.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral called.notes_to_v1(cf_s, null::called.notes) cf_c
    where not exists (select from called.notes cf_t where (cf_t).id = (cf_s).id)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('id', cf_s.id) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral called.notes_to_v1(cf_o, null::called.notes) cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind('notes') then
      perform crossfade_private.note_behind('notes', 2, 'UPDATE', array(
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
    if sqlstate = '23505' and cf_constraint = any ('{notes_pkey}'::text[])
        and current_setting('transaction_isolation') <> 'read committed'
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      cf_rows := cf_news;
      perform crossfade_private.refuse_or_record(
        'notes', 2, jsonb_build_object('id', (cf_rows[1]).id), 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v2_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $function$

CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_edit(cf_olds settled.notes_v2[], cf_news settled.notes_v2[], cf_nested boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V2, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows settled.notes_v2[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    update settled.notes cf_t set body = case when (row(((cf_o).body)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).body)::jsonb)::record and ((cf_o).body is distinct from (cf_s).body or ((cf_o).body)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).body)::jsonb::text)) then ((((cf_s).body #>> '{}'::text[]))::text)::text else (cf_t).body end, updated_at = case when (cf_o).updated_at is distinct from (cf_s).updated_at then (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone else (cf_t).updated_at end
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join settled.notes_v2 cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page and (((row(((cf_o).body)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).body)::jsonb)::record and ((cf_o).body is distinct from (cf_s).body or ((cf_o).body)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).body)::jsonb::text))) and (cf_t).body collate pg_catalog."C" is distinct from ((((cf_s).body #>> '{}'::text[]))::text)::text or ((cf_o).updated_at is distinct from (cf_s).updated_at) and (cf_t).updated_at is distinct from (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone);
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join settled.notes_v2 cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join settled.notes cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
        where ((row(((cf_o).body)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).body)::jsonb)::record and ((cf_o).body is distinct from (cf_s).body or ((cf_o).body)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).body)::jsonb::text))) and (cf_t).body collate pg_catalog."C" is distinct from ((((cf_s).body #>> '{}'::text[]))::text)::text or ((cf_o).updated_at is distinct from (cf_s).updated_at) and (cf_t).updated_at is distinct from (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes dropped a mirrored write';
    end if;
    delete from settled.notes cf_t
    using unnest(cf_news) cf_r
    where (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page and not exists (
      select from settled.notes_v2 cf_s
      where (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_s).book)::bigint as book, ((cf_s).page)::integer as page, (((cf_s).body #>> '{}'::text[]))::text as body, ((cf_s).updated_at)::timestamp with time zone as updated_at) cf_c));
    
    insert into settled.notes (book, page, body, updated_at) overriding system value
    select cf_c.book, cf_c.page, cf_c.body, cf_c.updated_at
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join settled.notes_v2 cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).book)::bigint as book, ((cf_s).page)::integer as page, (((cf_s).body #>> '{}'::text[]))::text as body, ((cf_s).updated_at)::timestamp with time zone as updated_at) cf_c
    where not exists (select from settled.notes cf_t where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('book', cf_s.book, 'page', cf_s.page) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral (select ((cf_o).book)::bigint as book, ((cf_o).page)::integer as page, (((cf_o).body #>> '{}'::text[]))::text as body, ((cf_o).updated_at)::timestamp with time zone as updated_at) cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind('notes') then
      perform crossfade_private.note_behind('notes', 2, 'UPDATE', array(
        select jsonb_build_object('book', cf_s.book, 'page', cf_s.page)
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        cross join lateral (select (cf_n).*) cf_s
        where (cf_s).book = (cf_o).book and (cf_s).page = (cf_o).page));
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
        'notes', 2, jsonb_build_object('book', (cf_rows[1]).book, 'page', (cf_rows[1]).page), 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v2_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $function$

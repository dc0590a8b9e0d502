CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v1_edit(cf_olds settled.notes[], cf_news settled.notes[], cf_nested boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'settled', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V1, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows settled.notes[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    execute coalesce((
      select 'update settled.notes_v2 cf_t set ' || string_agg(cf_text, ', ' order by cf_place) || '
    from (select unnest($1) as cf_o, unnest($2) as cf_n) cf_q
    join settled.notes cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting(''transaction_isolation'') = ''read committed'' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page and (((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb)::record and ((cf_t).body is distinct from ((to_jsonb((cf_s).body))::jsonb)::jsonb or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb::text)) or ((cf_o).updated_at is distinct from (cf_s).updated_at) and (cf_t).updated_at is distinct from (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone)'
      from (
        select array[bool_or(((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb)::record and ((cf_t).body is distinct from ((to_jsonb((cf_s).body))::jsonb)::jsonb or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb::text))), bool_or(((cf_o).updated_at is distinct from (cf_s).updated_at) and (cf_t).updated_at is distinct from (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone)] as cf_edited
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join settled.notes cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join settled.notes_v2 cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
      ) cf_e
      -- Only columns that were edited are named: triggers of the owner's are for some columns.
      cross join unnest(cf_edited, array['body = case when (cf_o).body collate pg_catalog."C" is distinct from (cf_s).body then ((to_jsonb((cf_s).body))::jsonb)::jsonb else (cf_t).body end', 'updated_at = case when (cf_o).updated_at is distinct from (cf_s).updated_at then (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone else (cf_t).updated_at end']::text[]) with ordinality cf_u(cf_is, cf_text, cf_place)
      where cf_is having count(*) > 0), 'select') using cf_olds, cf_news;
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join settled.notes cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join settled.notes_v2 cf_t on (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page
        where ((cf_o).body collate pg_catalog."C" is distinct from (cf_s).body) and (row(((cf_t).body)::jsonb)::record operator(pg_catalog.*<>) row((((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb)::record and ((cf_t).body is distinct from ((to_jsonb((cf_s).body))::jsonb)::jsonb or ((cf_t).body)::jsonb::text collate pg_catalog."C" is distinct from (((to_jsonb((cf_s).body))::jsonb)::jsonb)::jsonb::text)) or ((cf_o).updated_at is distinct from (cf_s).updated_at) and (cf_t).updated_at is distinct from (((cf_s).updated_at)::timestamp with time zone)::timestamp with time zone) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of settled.notes_v2 dropped a mirrored write';
    end if;
    delete from settled.notes_v2 cf_t
    using unnest(cf_news) cf_r
    where (cf_t).book = (cf_r).book and (cf_t).page = (cf_r).page and not exists (
      select from settled.notes cf_s
      where (cf_s).book = (cf_r).book and (cf_s).page = (cf_r).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((cf_t).edits, 0))::integer as edits) cf_c));
    
    insert into settled.notes_v2 (page, book, body, updated_at, edits) overriding system value
    select cf_c.page, cf_c.book, cf_c.body, cf_c.updated_at, cf_c.edits
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join settled.notes cf_s on (cf_s).book = (cf_n).book and (cf_s).page = (cf_n).page and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).page)::integer as page, ((cf_s).book)::bigint as book, (to_jsonb((cf_s).body))::jsonb as body, ((cf_s).updated_at)::timestamp with time zone as updated_at, (COALESCE((null::settled.notes_v2).edits, 0))::integer as edits) cf_c
    where not exists (select from settled.notes_v2 cf_t where (cf_t).book = (cf_s).book and (cf_t).page = (cf_s).page)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('book', cf_s.book, 'page', cf_s.page) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral (select ((cf_o).page)::integer as page, ((cf_o).book)::bigint as book, (to_jsonb((cf_o).body))::jsonb as body, ((cf_o).updated_at)::timestamp with time zone as updated_at, (COALESCE((null::settled.notes_v2).edits, 0))::integer as edits) cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind('notes') then
      perform crossfade_private.note_behind('notes', 1, 'UPDATE', array(
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
    if sqlstate = '23505' and cf_constraint = any ('{notes_v2_pkey}'::text[])
        and current_setting('transaction_isolation') <> 'read committed'
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      cf_rows := cf_news;
      perform crossfade_private.refuse_or_record(
        'notes', 1, jsonb_build_object('book', (cf_rows[1]).book, 'page', (cf_rows[1]).page), 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v1_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $function$

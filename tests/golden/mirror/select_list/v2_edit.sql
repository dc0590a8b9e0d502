CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_edit(cf_olds select_list.notes_v2[], cf_news select_list.notes_v2[], cf_nested boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'public', 'extensions', 'select_list', 'pg_temp'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": edits of rows of V2, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows select_list.notes_v2[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    update select_list.notes cf_t set body = case when (row(((cf_o).parts)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).parts)::jsonb)::record and ((cf_o).parts is distinct from (cf_s).parts or ((cf_o).parts)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).parts)::jsonb::text)) then ((((cf_s).parts ->> 0))::text)::text else (cf_t).body end, tag = case when (cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag then (((cf_s).tag)::text)::text else (cf_t).tag end
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join select_list.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    where (cf_t).id = (cf_s).id and (((row(((cf_o).parts)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).parts)::jsonb)::record and ((cf_o).parts is distinct from (cf_s).parts or ((cf_o).parts)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).parts)::jsonb::text))) and (cf_t).body collate pg_catalog."C" is distinct from ((((cf_s).parts ->> 0))::text)::text or ((cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag) and (cf_t).tag collate pg_catalog."C" is distinct from (((cf_s).tag)::text)::text);
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join select_list.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
        join select_list.notes cf_t on (cf_t).id = (cf_s).id
        where ((row(((cf_o).parts)::jsonb)::record operator(pg_catalog.*<>) row(((cf_s).parts)::jsonb)::record and ((cf_o).parts is distinct from (cf_s).parts or ((cf_o).parts)::jsonb::text collate pg_catalog."C" is distinct from ((cf_s).parts)::jsonb::text))) and (cf_t).body collate pg_catalog."C" is distinct from ((((cf_s).parts ->> 0))::text)::text or ((cf_o).tag collate pg_catalog."C" is distinct from (cf_s).tag) and (cf_t).tag collate pg_catalog."C" is distinct from (((cf_s).tag)::text)::text) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of select_list.notes dropped a mirrored write';
    end if;
    delete from select_list.notes cf_t
    using unnest(cf_news) cf_r
    where (cf_t).id = (cf_r).id and not exists (
      select from select_list.notes_v2 cf_s
      where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)) and exists (select from lateral (select ((cf_s).id)::bigint as id, (((cf_s).parts ->> 0))::text as body, ((cf_s).tag)::text as tag) cf_c));
    
    insert into select_list.notes (id, body, tag) overriding system value
    select cf_c.id, cf_c.body, cf_c.tag
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join select_list.notes_v2 cf_s on (cf_s).id = (cf_n).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin))
    cross join lateral (select ((cf_s).id)::bigint as id, (((cf_s).parts ->> 0))::text as body, ((cf_s).tag)::text as tag) cf_c
    where not exists (select from select_list.notes cf_t where (cf_t).id = (cf_s).id)
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = 'notes' and f.resolved_at is null and f.moved_to is not null
          and jsonb_build_object('id', cf_s.id) in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral (select ((cf_o).id)::bigint as id, (((cf_o).parts ->> 0))::text as body, ((cf_o).tag)::text as tag) cf_b));
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

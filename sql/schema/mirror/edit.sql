-- The text of the function that brings edits to counterparts when the statement of the UPDATE
-- trigger could not: rows that a trigger wrote again, rows that are refused, rows without a
-- counterpart.

create or replace function crossfade_private.mirror_edit_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: edits of rows of V{side}, read again by their keys.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_news);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_rows {source}[];
  cf_written bigint;
  cf_constraint text;
begin
  begin
    {edit_statement}
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join {source} cf_s on {same_key_s_n}
        join {target} cf_t on {same_key_t_s}
        where {edited}) then
      {raise_dropped}
    end if;
    delete from {target} cf_t
    using unnest(cf_news) cf_r
    where {same_key_t_r} and not exists (
      select from {source} cf_s
      where {same_key_s_r} and exists (select from lateral {convert} cf_c));
    {raise_left_out}
    insert into {target} ({target_columns}) overriding system value
    select {made_columns}
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    cross join lateral {convert_now} cf_c
    where not exists (select from {target} cf_t where {same_key_t_s})
      -- Its counterpart is there, under another key: one of the two could not follow the other.
      and not exists (
        select from crossfade.mirror_failures f
        where f.pair = {pair_literal} and f.resolved_at is null and f.moved_to is not null
          and {key_json_s} in (f.key, f.moved_to))
      -- SAFETY: a statement of a trigger may work on a row that is being deleted.
      and (not cf_nested or not exists (select from lateral {convert_old} cf_b));
    if cf_written < cf_size and crossfade_private.is_any_behind({pair_literal}) then
      perform crossfade_private.note_behind({pair_literal}, {side}, 'UPDATE', array(
        select {key_json_s}
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        cross join lateral (select (cf_n).*) cf_s
        where {same_key_given_s_o}));
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    -- A counterpart that was copied after the snapshot of this transaction was taken is not seen
    -- here.
    if sqlstate = '23505' and cf_constraint = any ({target_key_names})
        and current_setting('transaction_isolation') <> 'read committed'
      or crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      cf_rows := cf_news;
      perform crossfade_private.refuse_or_record(
        {pair_literal}, {side}, {key_json_row}, 'UPDATE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform {function}_edit(cf_olds[cf_at : cf_at + cf_step - 1],
      cf_news[cf_at : cf_at + cf_step - 1], cf_nested);
  end loop;
end $body$;
$text$;

comment on function crossfade_private.mirror_edit_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_edit(cf_olds, cf_news, cf_nested): all rows at once, then in sixteenths, then one by one; what is refused is recorded.';

create or replace function crossfade_private.raise_left_out_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$if exists (
        select from unnest(cf_news) cf_r
        join {target} cf_t on {same_key_t_r}
        where not exists (
          select from {source} cf_s
          where {same_key_s_r} and exists (select from lateral {convert} cf_c))) then
      {raise_dropped}
    end if;$body$;
$text$;

comment on function crossfade_private.raise_left_out_text is
  'The part of mirror_edit_text that looks, for converters that may give no row, whether the counterpart is gone.';

create or replace function crossfade_private.edit_statement_text(by_column boolean)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select case when not by_column then $body$update {target} cf_t set {edits}
    from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    where {same_key_t_s} and ({edited});$body$
  else $body$execute coalesce((
      select {named_head} || string_agg(cf_text, ', ' order by cf_place) || {named_tail}
      from (
        select array[{edited_each}] as cf_edited
        from (select unnest(cf_olds) as cf_o, unnest(cf_news) as cf_n) cf_q
        join {source} cf_s on {same_key_s_n}
        join {target} cf_t on {same_key_t_s}
      ) cf_e
      -- Only columns that were edited are named: triggers of the owner's are for some columns.
      cross join unnest(cf_edited, {edited_texts}) with ordinality cf_u(cf_is, cf_text, cf_place)
      where cf_is having count(*) > 0), 'select') using cf_olds, cf_news;$body$ end;
$text$;

comment on function crossfade_private.edit_statement_text is
  'The statement of mirror_edit_text; by_column for tables with triggers UPDATE OF columns, which must not fire for columns that nobody edited.';

create or replace function crossfade_private.named_tail_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
    from (select unnest($1) as cf_o, unnest($2) as cf_n) cf_q
    join {source} cf_s on {same_key_s_n}
    where {same_key_t_s} and ({edited})$body$;
$text$;

comment on function crossfade_private.named_tail_text is
  'What follows the columns in the statement that edit_statement_text builds by column.';

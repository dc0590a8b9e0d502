-- Stage retired: the trigger behind the view that has V1's name. It runs as whoever writes, so
-- that the rights and policies of V2 hold, and calls nothing of crossfade_private, where API roles
-- have no right.

create or replace function crossfade_private.view_write_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: what is written to its view goes to version 2.
#variable_conflict use_column
declare
  cf_old {archive};
  cf_new {archive};
  cf_now {archive};
  cf_row {target};
  cf_made {target};
  cf_before {target};
  cf_asked text;
  cf_given text[];
  cf_merges boolean := false;
  cf_count bigint;
  cf_constraint text;
  cf_detail text;
begin
  if tg_op = 'DELETE' then
    cf_old := old;
    -- A row that somebody has changed meanwhile is looked at again by this condition.
    delete from {target} cf_t where {key_t_old}
      and (select not ({now_differs_t}) from (select {image_t} from {convert_t} cf_c) cf_i);
    get diagnostics cf_count = row_count;
    if cf_count > 0 then
      return old;
    end if;
    select cf_t.* into cf_row from {target} cf_t where {key_t_old};
    if not found then
      return null;
    end if;
    select {image_row} into cf_now from {convert_row} cf_c;
    if {old_differs_now} then
      if not (select {is_own_t} from {target} cf_t where {key_t_old}) then
        {raise_moved}
      end if;
      -- A trigger of version 2 has changed it, for a row before this one of the statement.
      delete from {target} cf_t where {key_t_old};
      get diagnostics cf_count = row_count;
      if cf_count > 0 then
        return old;
      end if;
    end if;
    return null;
  end if;
  cf_new := new;
  {identity}
  {generate}
  {check}
  if tg_op = 'INSERT' then
    select cf_c.* into cf_made from {make_new} cf_c;
    if not found then
      {raise_left_out}
    end if;
    loop
      insert into {target} ({columns}) overriding system value
      values ({made_values}) on conflict{conflict} do nothing;
      get diagnostics cf_count = row_count;
      exit when cf_count > 0;
      -- A view has no key that the Data API could name in ON CONFLICT: its client's wish stands in
      -- the header, and the columns that were sent in the statement.
      cf_asked := substring(nullif(current_setting('request.headers', true), '')::json ->> 'prefer'
        from 'resolution=(merge|ignore)-duplicates');
      if cf_asked is not null and pg_trigger_depth() = 1 then
        cf_given := array(
          select replace(m[1], '""', '"')
          from regexp_matches((regexp_match(current_query(), {insert_pattern}, 'i'))[1],
            '"((?:[^"]|"")*)"', 'g') m);
        cf_merges := cf_given <> '{}' and exists (select from {target} cf_t where {key_t_made});
      end if;
      if not cf_merges then
        -- Again, for the error that a table would give.
        begin
          insert into {target} ({columns}) overriding system value values ({made_values});
          get diagnostics cf_count = row_count;
        exception when unique_violation then
          {raise_taken}
        end;
        exit when cf_count > 0;
        return null;
      elsif cf_asked = 'ignore' then
        return null;
      end if;
      select cf_t.* into cf_row from {target} cf_t where {key_t_made} for no key update;
      exit when found;
      if exists (select from {target} cf_t where {key_t_made}) then
        {raise_unwritable}
      end if; -- else it was deleted meanwhile
    end loop;
  end if;
  if tg_op = 'UPDATE' or cf_merges then
    if cf_merges then
      select {image_row} into cf_now from {convert_row} cf_c;
      cf_old := cf_now;
      {merge}
      {generate}
      {check}
    else
      cf_old := old;
      select cf_t.* into cf_row from {target} cf_t where {key_t_old} for no key update;
      if not found then
        return null;
      end if;
      -- SAFETY: the new row was made of the row that the statement saw. Where that has changed
      -- since, writing it would undo what somebody else was told is stored.
      select {image_row} into cf_now from {convert_row} cf_c;
      if {old_differs_now} then
        if not (select {is_own_t} from {target} cf_t where {key_t_old}) then
          {raise_moved}
        end if;
        -- A trigger of version 2 has, for a row before this one, or the statement meets it twice:
        -- only what it edits is written.
        cf_given := {edited_names};
        {merge}
        {generate}
        {check}
        cf_old := cf_now;
      end if;
    end if;
    select cf_c.* into cf_made from {make_edited} cf_c;
    if not found then
      {raise_left_out}
    end if;
    select cf_c.* into cf_before from {make_before} cf_c;
    -- What the edit did not touch stays as version 2 has it.
    if {key_row_made} then
      {update}
      get diagnostics cf_count = row_count;
    else
      begin
        {update}
        get diagnostics cf_count = row_count;
      exception when unique_violation then
        {raise_taken}
      end;
    end if;
    if cf_count = 0 then
      return null;
    end if;
  end if;
  {returned}
  return new;
end $body$;
$text$;

create or replace function crossfade_private.view_stored_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$-- As it is stored: triggers may have changed it. Who may not read it gets what was
  -- written.
  cf_row := cf_made;
  if has_table_privilege({target_literal}, 'select') then
    for cf_before in select cf_t.* from {target} cf_t where {key_t_made} loop
      cf_row := cf_before;
    end loop;
  end if;
  select {image_row} into new from {convert_row} cf_c;$body$;
$text$;

comment on function crossfade_private.view_stored_text is
  'The part of view_write_text that gives RETURNING the row, where V2 has triggers or generated columns that make it another one than what was written.';

comment on function crossfade_private.view_write_text is
  'Body of crossfade_private.view_<pair>_write(), the INSTEAD OF trigger of a retired V1: an edit of a row that has changed since the statement saw it is 40001, a taken key 23505 with the constraint of V1; RETURNING gives the row as it is stored.';

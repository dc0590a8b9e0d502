-- The texts of two row triggers for tables with BEFORE ROW triggers of their owner (updated_at,
-- slugs, counters): what the mirror, a copy or a repair assigned stands, whatever those compute.

create or replace function crossfade_private.mirror_first_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: keeps a row of V{side} as the mirror assigned it, before triggers of the owner's.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
begin
  {read_context}
  perform set_config({kept} || cf_depth, case when {own_write} then {new_row}::text else '' end,
    true);
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_first_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_first: BEFORE ROW trigger that fires first by its name.';

create or replace function crossfade_private.mirror_last_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: puts the columns that the converter makes back into a row of V{side}.
declare
  cf_kept constant text := current_setting({kept} || pg_trigger_depth(), true);
  cf_row {source};
begin
  if cf_kept <> '' then
    cf_row := cf_kept::{source};
    {put_back}
    perform set_config({kept} || pg_trigger_depth(), '', true);
  end if;
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_last_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_last: BEFORE ROW trigger that fires last by its name. What only this table holds stays as its owner''s triggers computed it.';

create or replace function crossfade_private.mirror_key_text()
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $text$
  select $body$
-- {made_by}: gives a row of V{side} the key that its counterpart moved to.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
  cf_key constant jsonb := current_setting({new_key}, true)::jsonb;
begin
  {read_context}
  if {own_write} then
    {assign_key}
  end if;
  -- For one row only: a statement that this one causes must not move another.
  perform set_config({new_key}, '', true);
  return new;
end $body$;
$text$;

comment on function crossfade_private.mirror_key_text is
  'Body of crossfade_private.mirror_<pair>_v<side>_key: BEFORE ROW trigger for keys that are GENERATED ALWAYS AS IDENTITY, which no UPDATE may set. Deleting and inserting instead would cascade.';

CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_first()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
AS $function$
-- crossfade 0.2.0: mirror of pair "notes": keeps a row of V2 as the mirror assigned it, before triggers of the owner's.
declare
  cf_depth constant integer := pg_trigger_depth();
  cf_context text;
begin
  get diagnostics cf_context = pg_context;
    if strpos(cf_context, '"crossfade_private"."mirror_notes_v') > 0 then
      cf_context := regexp_replace(cf_context, E'"crossfade_private"\\."(mirror_notes_v[12]_[a-z]+)"\\(', E'crossfade_private.\\1(', 'g');
    end if;
  perform set_config('crossfade.kept_notes_v2_' || cf_depth, case when cf_depth = 2 and strpos(split_part(cf_context, e'\n', -1), ' crossfade_private.mirror_notes_v1_') > 0
      and strpos(split_part(cf_context, e'\n', -1), '"') = 0
      or crossfade_private.is_own_write(cf_context, cf_depth, 'notes', 1) then new::text else '' end,
    true);
  return new;
end $function$

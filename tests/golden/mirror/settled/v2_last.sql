CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_last()
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
-- crossfade 0.2.0: mirror of pair "notes": puts the columns that the converter makes back into a row of V2.
declare
  cf_kept constant text := current_setting('crossfade.kept_notes_v2_' || pg_trigger_depth(), true);
  cf_row settled.notes_v2;
begin
  if cf_kept <> '' then
    cf_row := cf_kept::settled.notes_v2;
    new.body := cf_row.body;
    new.updated_at := cf_row.updated_at;
    perform set_config('crossfade.kept_notes_v2_' || pg_trigger_depth(), '', true);
  end if;
  return new;
end $function$

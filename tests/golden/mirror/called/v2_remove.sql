CREATE OR REPLACE FUNCTION crossfade_private.mirror_notes_v2_remove(cf_rows called.notes_v2[])
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
-- crossfade 0.2.0: mirror of pair "notes": counterparts of rows deleted from V2, some of which cannot be deleted.
#variable_conflict use_column
declare
  cf_size constant integer := cardinality(cf_rows);
  cf_step constant integer := greatest(1, cf_size / 16);
  cf_written bigint;
  cf_constraint text;
begin
  begin
    delete from called.notes cf_t using unnest(cf_rows) cf_r
    where (cf_t).id = (cf_r).id and not exists (select from called.notes_v2 cf_s where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)));
    get diagnostics cf_written = row_count;
    if cf_written < cf_size and exists (
        select from unnest(cf_rows) cf_r join called.notes cf_t on (cf_t).id = (cf_r).id
        where not exists (select from called.notes_v2 cf_s where (cf_s).id = (cf_r).id and (current_setting('transaction_isolation') = 'read committed' or crossfade_private.is_of_this_transaction(cf_s.xmin)))) then
      raise exception using errcode = 'CF017', message = 'a trigger or rule of called.notes dropped a mirrored write';
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics cf_constraint = constraint_name;
    if crossfade_private.is_transient(sqlstate) then
      raise;
    elsif cf_size = 1 then
      perform crossfade_private.refuse_or_record(
        'notes', 2, jsonb_build_object('id', (cf_rows[1]).id), 'DELETE', sqlstate, sqlerrm, cf_constraint);
      return;
    end if;
  end;
  for cf_at in 1..cf_size by cf_step loop
    perform crossfade_private.mirror_notes_v2_remove(cf_rows[cf_at : cf_at + cf_step - 1]);
  end loop;
end $function$

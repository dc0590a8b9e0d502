-- Why a change is made, remembered for the audit of the transaction.

create or replace function crossfade_private.set_reason(reason text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select set_config('crossfade.reason', coalesce(set_reason.reason, ''), true);
$$;

comment on function crossfade_private.set_reason is
  'Remember why, until the end of the transaction, for the audit rows that triggers write.';

create or replace function crossfade_private.reason()
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select nullif(current_setting('crossfade.reason', true), '');
$$;

comment on function crossfade_private.reason is
  'Why this transaction changes control rows; null when nobody said.';

create or replace function crossfade_private.require_reason(reason text, action text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(btrim(require_reason.reason), '') = '' then
    perform crossfade_private.fail(
      400, 'CF007', format('Cannot %s: a reason is required', action), '{}',
      'Say why in a few words; it is kept in the audit.');
  end if;
  perform crossfade_private.set_reason(require_reason.reason);
end $$;

comment on function crossfade_private.require_reason is
  'Refuse an empty reason (CF007), else remember it for the audit. action completes the sentence "Cannot ...".';

-- Why a change is made, remembered for the audit of the transaction.

create or replace function crossfade_private.control_characters()
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]';
$$;

comment on function crossfade_private.control_characters is
  'Regular expression for what a terminal obeys, what ends a line and what turns the reading direction round (C0, C1, bidi).';

create or replace function crossfade_private.plain_reason(reason text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select regexp_replace(plain_reason.reason, crossfade_private.control_characters(), '?', 'g');
$$;

comment on function crossfade_private.plain_reason is
  'A reason with ? for each control character: where a stop or a rollback by itself must not be refused for one.';

create or replace function crossfade_private.set_reason(reason text)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select set_config('crossfade.reason',
    coalesce(crossfade_private.plain_reason(set_reason.reason), ''), true);
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
  elsif require_reason.reason ~ crossfade_private.control_characters() then
    perform crossfade_private.fail(
      400, 'CF012', format('Cannot %s: the reason holds a control character or a line break',
        action), '{"field": "reason"}', 'Say it in one line of plain text.');
  end if;
  perform crossfade_private.set_reason(require_reason.reason);
end $$;

comment on function crossfade_private.require_reason is
  'Refuse an empty reason (CF007) and one with control characters (CF012), else remember it for the audit. action completes the sentence "Cannot ...".';

-- The two schemas. Applies to an empty project, and over itself without change.

do $$
begin
  if to_regclass('crossfade.control') is null then
    return;
  end if;
  if (select c.schema_version < 2 from crossfade.control c) then
    raise exception
      'crossfade 0.1.0 is installed, which this version cannot take over: run crossfade uninstall first'
      using hint = 'Run: crossfade uninstall, apply what it writes, then install again.';
  end if;
end $$;

-- Functions may use columns that a release adds at its end (refresh.sql).
do $$
begin
  perform set_config('check_function_bodies', 'off', true);
end $$;

create schema if not exists crossfade;
create schema if not exists crossfade_private;

comment on schema crossfade is
  'crossfade: tables and RPC functions that the control plane and edge functions use. Expose it to the Data API.';
comment on schema crossfade_private is
  'crossfade: trigger functions, generated code and helpers. Never expose it.';

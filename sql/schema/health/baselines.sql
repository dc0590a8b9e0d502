-- How V1 answered before it was mirrored (R9).

create or replace function crossfade_private.keep_baseline()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_window jsonb := crossfade_private.backend_window(old.name, old.step, 1,
    date_trunc('minute', greatest(old.step_started_at, now()
      - crossfade_private.setting_number('health_window_max_s') * interval '1 s')));
begin
  if (v_window ->> 'requests')::bigint < crossfade_private.setting_number('r9_min_requests') then
    return null;
  end if;
  insert into crossfade.baselines as b (pair, requests, p50_ms, p95_ms)
  values (new.name, (v_window ->> 'requests')::bigint, (v_window ->> 'p50_ms')::double precision,
    (v_window ->> 'p95_ms')::double precision)
  on conflict on constraint baselines_pkey do update
  set at = clock_timestamp(), requests = excluded.requests, p50_ms = excluded.p50_ms,
    p95_ms = excluded.p95_ms;
  return null;
end $$;

comment on function crossfade_private.keep_baseline is
  'Trigger: when mirroring begins, keep how backend 1 answered until then.';

create or replace trigger crossfade_after_mirrored
after update of stage on crossfade.pairs
for each row when (old.stage = 'off' and new.stage = 'dualwrite')
execute function crossfade_private.keep_baseline();

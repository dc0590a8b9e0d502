-- Naming the sessions that somebody has to wait for. Never what they execute: that holds values.

create or replace function crossfade_private.sessions(pids integer[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'pid', a.pid, 'user', a.usename, 'application', nullif(a.application_name, ''),
    'state', a.state, 'transaction_s',
    round(extract(epoch from clock_timestamp() - a.xact_start)::numeric, 1),
    'query_started_at', a.query_start) order by a.xact_start, a.pid), '[]')
  from pg_catalog.pg_stat_activity a where a.pid = any (pids);
$$;

comment on function crossfade_private.sessions is
  'Sessions as [{"pid", "user", "application", "state", "transaction_s": age of the transaction, "query_started_at"}], the oldest transaction first. What this role may not see is null.';

create or replace function crossfade_private.prepared_transactions(numbers xid[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'pid', null, 'user', x.owner, 'application', null, 'state', 'prepared', 'prepared', x.gid,
    'transaction_s', round(extract(epoch from clock_timestamp() - x.prepared)::numeric, 1),
    'query_started_at', null) order by x.prepared), '[]')
  from pg_catalog.pg_prepared_xacts x where x.transaction = any (numbers);
$$;

comment on function crossfade_private.prepared_transactions is
  'Prepared transactions as sessions() shows sessions; "prepared" is the name to commit or roll back.';

create or replace function crossfade_private.name_sessions(sessions jsonb)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s of %s (%s%s%s)',
    coalesce('session ' || (s.session ->> 'pid'),
      'prepared transaction ' || (s.session -> 'prepared')::text),
    coalesce(s.session ->> 'user', 'an unknown user'),
    coalesce((s.session -> 'application')::text || ', ', ''),
    coalesce(format('transaction open for %s s', s.session ->> 'transaction_s'), 'age not visible'),
    coalesce(format(', last query began at %s UTC',
      to_char((s.session ->> 'query_started_at')::timestamptz at time zone 'UTC',
        'HH24:MI:SS')), '')),
    ', ' order by s.n)
  from jsonb_array_elements(sessions) with ordinality s(session, n)
  where s.n <= 3 and s.session <> 'null';
$$;

comment on function crossfade_private.name_sessions is
  'The first three sessions for people; null when there is none.';

create or replace function crossfade_private.lock_holders(tables regclass[])
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Row locks are in no view. Who has written one of the tables, or a parent that its rows refer
  -- to, in a transaction that is still open, is who may hold the row.
  select coalesce((
    select jsonb_path_query_array(
      crossfade_private.sessions(array_agg(distinct l.pid)), '$[0 to 2]')
    from pg_catalog.pg_locks l
    where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
      and l.database = (select d.oid from pg_catalog.pg_database d
        where d.datname = current_database())
      and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock')
      and (l.relation in (
        select m.id from unnest(tables) t cross join crossfade_private.table_tree(t) m)
        or l.relation in (
        select c.confrelid from pg_catalog.pg_constraint c
        where c.contype = 'f' and c.conrelid = any (tables::oid[])))), '[]');
$$;

comment on function crossfade_private.lock_holders is
  'The three oldest transactions of others that may hold a row of the tables, or of what they refer to.';

create or replace function crossfade_private.locked_reason(what text, tables regclass[])
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_blocking jsonb;
begin
  -- What was seen of sessions at the beginning of the transaction is old by now.
  perform pg_stat_clear_snapshot();
  v_blocking := crossfade_private.lock_holders(tables);
  return jsonb_build_object('blocking', v_blocking, 'reason',
    concat_ws(', probably by ', what, crossfade_private.name_sessions(v_blocking)));
end $$;

comment on function crossfade_private.locked_reason is
  'What was waited for in vain (55P03), and for whom: {"reason", "blocking"}.';

create or replace function crossfade_private.lock_blockers()
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(crossfade_private.sessions(array_agg(distinct b.pid)), '[]')
  from pg_catalog.pg_stat_activity a
  cross join lateral unnest(pg_blocking_pids(a.pid)) b(pid)
  where a.backend_type = 'client backend' and a.wait_event_type = 'Lock'
    and not exists (
      select from pg_catalog.pg_stat_activity w where w.pid = b.pid and w.wait_event_type = 'Lock');
$$;

comment on function crossfade_private.lock_blockers is
  'Sessions that others wait for and that wait for nobody themselves. Stops the lock manager for a moment.';

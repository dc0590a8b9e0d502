-- Pairs: which tables belong together, how rows are converted, and the SQL pieces made from the
-- catalog.

create table if not exists crossfade.pairs (
  name text primary key,
  v1_table text not null,
  v2_table text not null,
  to_v2 text not null,
  to_v1 text not null,
  key_columns text[] not null,
  v2_key_columns text[] not null,
  gate_flag text,
  stage text not null default 'off',
  step bigint not null default 1,
  step_started_at timestamptz not null default clock_timestamp(),
  step_flags_version bigint not null default 0,
  stage_xid bigint default 0,
  latched_at timestamptz,
  latch_reason text,
  fingerprint text not null,
  converter_hash text not null,
  verified_converter_hash text,
  last_backfill_at timestamptz,
  last_clean_verify_at timestamptz,
  full_since timestamptz,
  needs_reverse_backfill boolean not null default false,
  options jsonb not null default '{}',
  registered_at timestamptz not null default clock_timestamp(),
  constraint pair_name_is_a_short_identifier check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint stage_is_known check (
    stage in ('off', 'dualwrite', 'shadow', 'live', 'rampdown', 'complete')
  )
);

comment on table crossfade.pairs is
  'One row per pair. Changed only by functions; step counts stage and percentage changes and labels request metrics.';
comment on column crossfade.pairs.stage_xid is
  'Transactions below it may have written before mirroring was on, so a backfill waits until they have ended. Null after the switch until the first batch knows it: a writer that misses the switch may begin as late as its commit.';
comment on column crossfade.pairs.fingerprint is
  'Hash of the columns of both tables when the generated code was made; batches refuse to run when it differs (CF011).';
comment on column crossfade.pairs.full_since is
  'Since when backend 2 has served everybody; null while it does not.';

create table if not exists crossfade.cohorts (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  percentage numeric(6, 3) not null default 0,
  cohort_key text not null,
  enabled_user_ids text[] not null default '{}',
  enabled_agent_ids text[] not null default '{}',
  denied_user_ids text[] not null default '{}',
  denied_agent_ids text[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null default crossfade_private.actor(),
  constraint percentage_is_0_to_100 check (percentage between 0 and 100)
);

comment on table crossfade.cohorts is
  'The units that backend 2 serves in stage live: percentage 0 to 100 (three decimals), allow and deny lists. Deny wins.';

create table if not exists crossfade_private.mirror_state (
  pair text primary key references crossfade.pairs on delete cascade on update cascade,
  mirror text not null default 'off',
  failure_policy text not null default 'record',
  tombstones boolean not null default false,
  constraint mirror_is_known check (mirror in ('off', 'both', 'log_only', 'archived', 'reverse')),
  constraint failure_policy_is_known check (failure_policy in ('record', 'raise'))
);

comment on table crossfade_private.mirror_state is
  'off: nothing is mirrored. both: either table to the other. log_only: only the keys of changed rows are noted, as open failures that repair drains. archived: stage complete, V1 refuses writes. reverse: complete on the way back, V2 is mirrored and V1 still refuses writes. What the triggers read once per statement, apart from crossfade.pairs so that bookkeeping there never conflicts with writers.';

create table if not exists crossfade_private.pair_pieces (
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  side smallint not null,
  pieces jsonb not null,
  primary key (pair, side),
  constraint side_is_1_or_2 check (side in (1, 2))
);

comment on table crossfade_private.pair_pieces is
  'SQL fragments (column lists, key lists) per pair with this side as the source; filled into templates by render().';

create table if not exists crossfade.mirror_failures (
  id bigint generated always as identity primary key,
  pair text not null references crossfade.pairs on delete cascade on update cascade,
  written_side smallint not null,
  key jsonb not null,
  operation text not null,
  error_code text not null,
  message text not null,
  at timestamptz not null default clock_timestamp(),
  attempts integer not null default 1,
  resolved_at timestamptz,
  resolution text
);

create unique index if not exists mirror_failures_open_idx
  on crossfade.mirror_failures (pair, key) where resolved_at is null;
create index if not exists mirror_failures_pair_idx on crossfade.mirror_failures (pair, at);

comment on table crossfade.mirror_failures is
  'Writes that reached one table only. key uses the V1 column names; written_side says which table is right; open while resolved_at is null.';

-- Templates ---------------------------------------------------------------------------------------

create or replace function crossfade_private.render(template text, pieces jsonb)
returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  v_piece constant text := '\{([a-z][a-z0-9_]*)\}';
  -- What lies between the pieces, one more than there are pieces.
  v_between text[] := regexp_split_to_array(template, v_piece);
  v_name text;
  v_number integer := 1;
  v_sql text := v_between[1];
begin
  -- Once through the template and not piece by piece: a fragment may hold braces of its own.
  for v_name in select m[1] from regexp_matches(template, v_piece, 'g') m loop
    if not pieces ? v_name then
      raise exception 'crossfade: template has an unknown piece: {%}', v_name;
    end if;
    v_number := v_number + 1;
    v_sql := v_sql || (pieces ->> v_name) || v_between[v_number];
  end loop;
  return v_sql;
end $$;

comment on function crossfade_private.render is
  'Fill {piece} by its SQL fragment. Every fragment is quoted with format(%I, %L) when it is made. Raises P0001 for a piece that is not there.';

create or replace function crossfade_private.json_value(source json)
returns jsonb
-- Not parallel safe: a subtransaction cannot begin in a worker.
language plpgsql immutable strict
set search_path = ''
as $$
begin
  return source::jsonb;
exception when others then
  -- json holds what jsonb refuses, such as \u0000: that text is its own value.
  return to_jsonb(source::text);
end $$;

comment on function crossfade_private.json_value is
  'A json value to compare by; never raises.';

create or replace function crossfade_private.comparable(type_id oid, collation_id oid default 0)
returns text
language sql stable
set search_path = ''
as $$
  -- `=` must mean equality and must be found with an empty search_path: operators of extensions are
  -- not, and some types have none or (boxes) one that compares areas, or (intervals) one by which
  -- 30 days are a month. The others are compared by their binary form, which no session setting
  -- rounds, or by their text. A collation may find different texts equal; C does not.
  select case
    when exists (
      select from pg_catalog.pg_collation c
      where c.oid = collation_id and not c.collisdeterministic
    ) then '(%s) collate pg_catalog."C"'
    when y.typtype not in ('b', 'd') then '%s'
    when coalesce(b.oid, y.oid) = 'pg_catalog.json'::regtype then 'crossfade_private.json_value(%s)'
    when e.has_equality and (e.is_builtin or y.typcategory = 'A') then '%s'
    when y.typcategory = 'A' then 'pg_catalog.array_send(%s)'
    when y.typcategory = 'S' or y.typsend = 0 or coalesce(b.oid, y.oid) = 'pg_catalog.xml'::regtype
      then '(%s)::text'
    else format('%I.%I(%%s)', n.nspname, f.proname)
  end
  from pg_catalog.pg_type y
  left join pg_catalog.pg_type b on b.oid = y.typbasetype
  left join pg_catalog.pg_proc f on f.oid = y.typsend
  left join pg_catalog.pg_namespace n on n.oid = f.pronamespace
  cross join lateral (
    select i.typnamespace = 'pg_catalog'::regnamespace is_builtin, i.typtype not in ('b', 'd')
      or exists (
        select from pg_catalog.pg_opclass c
        join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
        where c.opcintype in (i.oid, i.typbasetype) and c.opcdefault
          and c.opcintype <> 'pg_catalog.interval'::regtype) has_equality
    from pg_catalog.pg_type i
    where i.oid = case when coalesce(b.typcategory, y.typcategory) = 'A'
      then coalesce(nullif(b.typelem, 0), nullif(y.typelem, 0)) else coalesce(b.oid, y.oid) end
  ) e
  where y.oid = type_id;
$$;

comment on function crossfade_private.comparable is
  'Template (%s for the column) of an expression by which values of a type can be compared.';

create or replace function crossfade_private.column_pieces(source regclass)
returns table (columns text[], compared text[])
language sql stable
set search_path = ''
as $$
  select
    array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = ''),
    array_agg(
      replace(crossfade_private.comparable(a.atttypid, a.attcollation), '%s',
        '%1$s.' || replace(quote_ident(a.attname), '%', '%%'))
      order by a.attnum
    ) filter (where a.attgenerated = '')
  from pg_catalog.pg_attribute a
  where a.attrelid = source and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.column_pieces is
  'Writable columns of a table, and the expressions to compare them by (with %1$s for the alias).';

create or replace function crossfade_private.always_identity(tab regclass)
returns text[]
language sql stable
set search_path = ''
as $$
  select coalesce(array_agg(a.attname::text), '{}')
  from pg_catalog.pg_attribute a where a.attrelid = tab and a.attidentity = 'a';
$$;

comment on function crossfade_private.always_identity is
  'Columns that are GENERATED ALWAYS AS IDENTITY.';

create or replace function crossfade_private.key_from_json(
  names text[], source regclass, source_key text[], expression text
)
returns text
language sql stable
set search_path = ''
as $$
  select string_agg(
    format('(%s ->> %L)::%s', expression, u.name, format_type(a.atttypid, a.atttypmod)),
      ', ' order by u.n)
  from unnest(names, source_key) with ordinality u(name, source_name, n)
  join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = u.source_name;
$$;

comment on function crossfade_private.key_from_json is
  'Typed key columns read from a JSON key, as a list of SQL expressions in key order.';

create or replace function crossfade_private.key_part(value timestamptz)
returns jsonb
language sql immutable
set search_path = ''
set timezone = 'UTC'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(timestamptz) is
  'A part of a key as JSON that is the same whatever the session''s time zone: keys are compared as JSON.';

create or replace function crossfade_private.key_part(value bytea)
returns jsonb
language sql immutable
set search_path = ''
set bytea_output = 'hex'
as $$
  select to_jsonb(value);
$$;

comment on function crossfade_private.key_part(bytea) is
  'A part of a key as JSON that is the same whatever the session''s bytea_output.';

create or replace function crossfade_private.key_to_json(
  names text[], tab regclass, columns text[], alias text
)
returns text
language sql stable
set search_path = ''
as $$
  select format('jsonb_build_object(%s)', string_agg(format('%L, %s', u.name, format(
    case when coalesce(nullif(y.typbasetype, 0), y.oid)
      in ('timestamptz'::regtype, 'bytea'::regtype)
      then 'crossfade_private.key_part(%s.%I)' else '%s.%I' end, alias, u.c)), ', ' order by u.n))
  from unnest(names, columns) with ordinality u(name, c, n)
  join pg_catalog.pg_attribute a on a.attrelid = tab and a.attname = u.c
  join pg_catalog.pg_type y on y.oid = a.atttypid;
$$;

comment on function crossfade_private.key_to_json is
  'SQL expression that makes the JSON key, with the V1 names, of a row.';

create or replace function crossfade_private.make_pieces(pair crossfade.pairs, side integer)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_source regclass := case side when 1 then pair.v1_table else pair.v2_table end::regclass;
  v_target regclass := case side when 1 then pair.v2_table else pair.v1_table end::regclass;
  v_source_key text[] := case side when 1 then pair.key_columns else pair.v2_key_columns end;
  v_target_key text[] := case side when 1 then pair.v2_key_columns else pair.key_columns end;
  v_source_columns record;
  v_target_columns record;
  -- PostgreSQL lets nobody update these.
  v_source_identity text[] := crossfade_private.always_identity(v_source);
  v_target_identity text[] := crossfade_private.always_identity(v_target);
  v_name text;
  v_alias text;
  v_pieces jsonb;
begin
  select * into v_source_columns from crossfade_private.column_pieces(v_source);
  select * into v_target_columns from crossfade_private.column_pieces(v_target);
  v_pieces := jsonb_build_object(
    'pair', pair.name, 'pair_literal', quote_literal(pair.name), 'side', side, 'other', 3 - side,
    'source', case side when 1 then pair.v1_table else pair.v2_table end,
    'target', case side when 1 then pair.v2_table else pair.v1_table end,
    -- Conversions are written {convert} ROW {with} COUNTERPART {converted}: a call, which
    -- install_mirror replaces by the text of the converter where that can be done.
    'convert', case side when 1 then pair.to_v2 else pair.to_v1 end || '(',
    'with', ',', 'converted', ')',
    'convert_back', case side when 1 then pair.to_v1 else pair.to_v2 end || '(',
    'with_back', ',', 'converted_back', ')',
    'target_columns',
    (select string_agg(quote_ident(c), ', ') from unnest(v_target_columns.columns) c),
    'target_key', (select string_agg(quote_ident(c), ', ') from unnest(v_target_key) c),
    'set_list', coalesce(
      (select string_agg(format('%1$I = cf_c.%1$I', c), ', ')
        from unnest(v_target_columns.columns) c
       where c <> all (v_target_key) and c <> all (v_target_identity)),
      -- A target that is nothing but its key: setting a key column to itself keeps the
      -- statement valid.
      format('%1$I = cf_c.%1$I', v_target_key[1])),
    'source_set_list', coalesce(
      (select string_agg(format('%1$I = cf_c.%1$I', c), ', ')
        from unnest(v_source_columns.columns) c
       where c <> all (v_source_key) and c <> all (v_source_identity)),
      format('%1$I = cf_c.%1$I', v_source_key[1])),
    -- Only what differs between cf_b (before) and cf_c (after).
    'merge_list', coalesce(
      (select string_agg(format(
          '%1$I = case when %2$s is distinct from %3$s then cf_c.%1$I else cf_t.%1$I end', u.c,
          format(u.compared, 'cf_b'), format(u.compared, 'cf_c')), ', ')
        from unnest(v_target_columns.columns, v_target_columns.compared) u(c, compared)
       where u.c <> all (v_target_key) and u.c <> all (v_target_identity)),
      format('%1$I = cf_c.%1$I', v_target_key[1])));
  v_pieces := v_pieces || jsonb_build_object(
    'skey_desc', (select string_agg(format('cf_s.%I desc', c), ', ') from unnest(v_source_key) c),
    -- Keys that come in as JSON: parameters $1 and $2, and column key of a table cf_z.
    'skey_1', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$1'),
    'skey_2', crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, '$2'),
    'skey_z',
    crossfade_private.key_from_json(pair.key_columns, v_source, v_source_key, 'cf_z.key'));
  -- Whatever alias a template uses for a row, it finds that row's key and comparison here.
  -- Aliases in templates begin with cf_: a column of the owner's with the same name would win
  -- over a row.
  foreach v_name in array array['n', 't', 'o', 'c', 's', 'a', 'b', 'd', 'sample', 'v_row', 'new',
    'old'] loop
    v_alias := case when v_name in ('v_row', 'new', 'old') then v_name else 'cf_' || v_name end;
    v_pieces := v_pieces || jsonb_build_object(
      'skey_' || v_name,
      (select string_agg(format('%s.%I', v_alias, c), ', ') from unnest(v_source_key) c),
      'tkey_' || v_name,
      (select string_agg(format('%s.%I', v_alias, c), ', ') from unnest(v_target_key) c),
      'scompare_' || v_name,
      (select string_agg(format(c, v_alias), ', ') from unnest(v_source_columns.compared) c),
      'tcompare_' || v_name,
      (select string_agg(format(c, v_alias), ', ') from unnest(v_target_columns.compared) c),
      'sfields_' || v_name,
      (select string_agg(format(c, format('(%s.cf_row)', v_alias)), ', ')
        from unnest(v_source_columns.compared) c),
      'tfields_' || v_name,
      (select string_agg(format(c, format('(%s.cf_row)', v_alias)), ', ')
        from unnest(v_target_columns.compared) c),
      'tcolumns_' || v_name,
      (select string_agg(format('%s.%I', v_alias, c), ', ')
        from unnest(v_target_columns.columns) c),
      -- Keys travel as JSON with the V1 names, whichever side they were read from.
      'skey_json_' || v_name,
      crossfade_private.key_to_json(pair.key_columns, v_source, v_source_key, v_alias),
      'tkey_json_' || v_name,
      crossfade_private.key_to_json(pair.key_columns, v_target, v_target_key, v_alias));
  end loop;
  return v_pieces || jsonb_build_object('move', case
    -- The statement trigger that comes next inserts the row under its new key.
    when v_target_identity && v_target_key then format('delete from %s cf_t where (%s) = (%s)',
      v_pieces ->> 'target', v_pieces ->> 'tkey_t', v_pieces ->> 'skey_old')
    else format('update %s cf_t set %s where (%s) = (%s)', v_pieces ->> 'target', (
      select string_agg(format('%I = new.%I', t.c, s.c), ', ')
      from unnest(v_target_key) with ordinality t(c, n)
      join unnest(v_source_key) with ordinality s(c, n) using (n)),
      v_pieces ->> 'tkey_t', v_pieces ->> 'skey_old')
    end);
end $$;

comment on function crossfade_private.make_pieces is
  'SQL fragments of a pair with side (1 or 2) as the source and the other one as the target.';

-- What must not change unseen ---------------------------------------------------------------------

create or replace function crossfade_private.table_fingerprint(v1 regclass, v2 regclass)
returns text
language sql stable
set search_path = ''
as $$
  select md5(string_agg(
    format('%s.%s %s %s %s', a.attrelid = v1, a.attname, format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attgenerated),
    ';' order by a.attrelid = v1, a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid in (v1, v2) and a.attnum > 0 and not a.attisdropped;
$$;

comment on function crossfade_private.table_fingerprint is
  'Hash of names, types and nullability of the columns of both tables.';

create or replace function crossfade_private.converter_hash(to_v2 text, to_v1 text)
returns text
language sql stable
set search_path = ''
as $$
  with recursive called(id) as (
    select to_regproc(f)::oid from unnest(array[to_v2, to_v1]) f
    union
    -- Postgres keeps no record of what a function's text calls, so its schema-qualified calls are
    -- read.
    select p.oid
    from called c
    join pg_catalog.pg_proc d on d.oid = c.id
    cross join lateral pg_catalog.regexp_matches(
      coalesce(pg_catalog.pg_get_function_sqlbody(d.oid), d.prosrc),
      '([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)\s*\(', 'g') m
    join pg_catalog.pg_namespace n on n.nspname = m[1] and n.nspname not like 'pg\_%'
    join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = m[2] and p.prokind = 'f'
  )
  select md5(string_agg(coalesce(pg_catalog.pg_get_functiondef(c.id), '-'), ';' order by c.id))
  from called c;
$$;

comment on function crossfade_private.converter_hash is
  'Hash of the definitions of both converters and of all functions they call by their qualified names. Calls without a schema or by dynamic SQL are not seen.';

create or replace function crossfade_private.get_pair(pair text)
returns crossfade.pairs
language plpgsql stable
set search_path = ''
as $$
declare
  v_pair crossfade.pairs;
begin
  select p.* into v_pair from crossfade.pairs p where p.name = get_pair.pair;
  if not found then
    perform crossfade_private.fail(
      404, 'CF001', format('Unknown pair "%s"', get_pair.pair),
      jsonb_build_object('pair', get_pair.pair,
        'known', (select coalesce(jsonb_agg(p.name order by p.name), '[]') from crossfade.pairs p)),
      'crossfade pair list shows the pairs; register one with the SQL in sql/pairs.');
  end if;
  return v_pair;
end $$;

comment on function crossfade_private.get_pair is
  'The pair''s row; CF001 with the known names when there is none.';

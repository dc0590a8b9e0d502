-- Converters in the engine's own statements. A converter in SQL with a pinned search_path, which
-- the advisors ask for (lint 0011), is one that PostgreSQL calls for every row: a function with a
-- SET clause is never inlined. All our statements run with that setting anyway, so the text of such
-- a converter can stand in them, and converting many rows is one plan.

create or replace function crossfade_private.converter_text(converter text)
returns text
language plpgsql volatile -- makes a function and removes it again
set search_path = pg_catalog, pg_temp
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_arguments text;
  v_text text;
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = to_regproc(converter);
  if v_proc.prolang <> (select l.oid from pg_catalog.pg_language l where l.lanname = 'sql')
    or v_proc.prosecdef or cardinality(v_proc.proconfig) is distinct from 1
    or v_proc.proconfig[1] not in ('search_path=pg_catalog, pg_temp', 'search_path=""')
    or cardinality(array_remove(v_proc.proargnames, '')) is distinct from 2 then
    return null;
  end if;
  v_text := pg_catalog.pg_get_function_sqlbody(v_proc.oid);
  if v_text is null then
    -- A body that is a string: PostgreSQL parses it, and prints it with every name qualified.
    -- SAFETY: whoever wrote it gains nothing; the mirror runs converters with the same rights.
    v_arguments := format('%s, %s', v_proc.proargtypes[0]::regtype, v_proc.proargtypes[1]::regtype);
    execute format(
      'create function pg_temp.%I(%I %s, %I %s) returns setof %s language sql stable begin atomic %s
       ; end',
      v_proc.proname, v_proc.proargnames[1], v_proc.proargtypes[0]::regtype,
      v_proc.proargnames[2], v_proc.proargtypes[1]::regtype, v_proc.prorettype::regtype,
      v_proc.prosrc);
    v_text := pg_catalog.pg_get_function_sqlbody(
      to_regprocedure(format('pg_temp.%I(%s)', v_proc.proname, v_arguments)));
    execute format('drop function pg_temp.%I(%s)', v_proc.proname, v_arguments);
  end if;
  v_text := substring(v_text from '^BEGIN ATOMIC\s+(.*);\s*END$');
  -- SAFETY: inside a trigger function an unqualified column of that name would be ambiguous, and
  -- these quotes would end its text.
  if regexp_replace(v_text, '''([^'']|'''')*''', '', 'g')
      ~* '\m(v_[a-z_]+|found|tg_[a-z]+|sqlstate|sqlerrm|new|old)\M'
    or v_text ~ '\$(body|sql|template)\$' then
    return null;
  end if;
  return v_text;
exception when others then
  return null; -- Whatever keeps it from being inlined: it is called, as before.
end $$;

comment on function crossfade_private.converter_text is
  'The one SELECT of a converter in SQL whose only setting is a search_path that is pg_catalog, pg_temp or empty; it reads its arguments as columns of a row that has the name of the function. Null for any other, which is called.';

create or replace function crossfade_private.conversion_pieces(
  converter text, source regclass, target regclass, suffix text
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_text text := crossfade_private.converter_text(converter);
  v_proc pg_catalog.pg_proc;
  v_pieces jsonb;
begin
  if v_text is null then
    return '{}'::jsonb;
  end if;
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = to_regproc(converter);
  select jsonb_build_object(
    'convert' || suffix, format('(select %s from (select ', string_agg(
      -- The type without its length: a value too long must be refused by the table, not cut.
      format('cf_made.%I::%s as %1$I', a.attname, format_type(a.atttypid, -1)),
      ', ' order by a.attnum)),
    'with' || suffix, format(' as %I, ', v_proc.proargnames[1]),
    'converted' || suffix, format(' as %I) %I cross join lateral (%s) cf_made(%s))',
      v_proc.proargnames[2], v_proc.proname, v_text,
      string_agg(quote_ident(a.attname), ', ' order by a.attnum)))
  into v_pieces
  from pg_catalog.pg_attribute a
  where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
  -- Several statements, or what else PostgreSQL would not plan: then it is called.
  execute crossfade_private.render(format('explain select from {source} cf_n
    cross join lateral {convert%1$s} row(cf_n.*)::{source} {with%1$s} null::{target} {converted%1$s}
      cf_c', suffix), v_pieces || jsonb_build_object('source', source, 'target', target));
  return v_pieces;
exception when others then
  return '{}'::jsonb;
end $$;

comment on function crossfade_private.conversion_pieces is
  'The pieces convert, with and converted (plus suffix) that put the text of a converter into a statement; empty when it has to be called. Locks both tables ACCESS SHARE.';

create or replace function crossfade_private.inlined_pieces(pair crossfade.pairs, side integer)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.conversion_pieces(s.there, s.source, s.target, '')
    || crossfade_private.conversion_pieces(s.back, s.target, s.source, '_back')
  from (values
    (1, (pair).to_v2, (pair).to_v1, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass),
    (2, (pair).to_v1, (pair).to_v2, ((pair).v2_table)::regclass, ((pair).v1_table)::regclass)
  ) s(side, there, back, source, target)
  where s.side = inlined_pieces.side;
$$;

comment on function crossfade_private.inlined_pieces is
  'Pieces that replace calls of the converters of a pair by their text, with side as the source. A converter that is replaced later is taken up by registering the pair again.';

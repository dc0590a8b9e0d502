-- The hand-over: a migration that re-points to V2 what depends on V1, as far as that is provably
-- right, and shows the rest as comments.

create or replace function crossfade_private.commented(lines text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Either sign ends a comment; a name or a text may hold both.
  select '-- ' || regexp_replace(rtrim(lines), E'\r\n|\r|\n', E'\n-- ', 'g');
$$;

comment on function crossfade_private.commented is
  'A text as comments of SQL, whatever it holds.';

create or replace function crossfade_private.dollar_quoted(body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A text cannot hold as many different tags as it has characters.
  select format(E'%s\n%s\n%1$s', t.tag, body)
  from (
    select format('$cf%s$', n) as tag
    from generate_series(1, length(body) + 1) n
    where strpos(body, format('$cf%s$', n)) = 0
    order by n limit 1
  ) t;
$$;

comment on function crossfade_private.dollar_quoted is
  'A text as a constant of SQL on lines of its own, with a tag that does not stand in it.';

create or replace function crossfade_private.guarded(
  condition text, statement text, object text
)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('do %s;', crossfade_private.dollar_quoted(format(
    E'begin\n  if %s then\n    execute %s;\n  else\n    raise notice ''%%'', %L;\n  end if;\nend',
    condition, crossfade_private.dollar_quoted(statement),
    object || ' is not what it was when this was written, and stays as it is')));
$$;

comment on function crossfade_private.guarded is
  'A statement that is executed under a condition, so that a second time it does nothing.';

create or replace function crossfade_private.hand_over_key(id oid, pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('reason', w.reason,
    'columns', case when k.change is null then to_jsonb(array(
      select a.attname::text from pg_catalog.pg_attribute a
      where a.attrelid = o.confrelid and a.attnum = any (o.confkey)
        and a.attname::text <> all ((pair).key_columns) order by a.attnum)) end,
    'shown', coalesce(k.change, format('alter table %s drop constraint %I', t.name, o.conname))
      || ';',
    'sql', case when w.reason is null then crossfade_private.guarded(
      format('exists (
    select from pg_constraint o
    where o.contype = ''f'' and o.conname = %L
      and o.conrelid = to_regclass(%L) and o.confrelid = to_regclass(%L))', o.conname, t.name,
        (pair).v1_table),
      concat(k.change, format(E';\ncomment on constraint %I on %s is ', o.conname, t.name)
        || quote_literal(obj_description(o.oid, 'pg_constraint'))), t.object) end,
    -- One that nobody has checked so far stays so.
    'check_sql', case when w.reason is null and o.convalidated then crossfade_private.guarded(
      format('exists (
    select from pg_constraint o
    where o.contype = ''f'' and o.conname = %L and not o.convalidated
      and o.conrelid = to_regclass(%L) and o.confrelid = to_regclass(%L))', o.conname, t.name,
        (pair).v2_table),
      crossfade_private.child_key_check(o.oid), t.object) end)
  from pg_catalog.pg_constraint o
  join pg_catalog.pg_class c on c.oid = o.conrelid
  cross join lateral (
    select o.conrelid::regclass::text, format('%I of %s', o.conname, o.conrelid::regclass)
  ) t(name, object)
  cross join lateral (select crossfade_private.child_key_change(o.oid, pair)) k(change)
  cross join lateral (
    select case
      when o.conparentid <> 0 then 'it goes with the foreign key of the partitioned table'
      when k.change is null then 'it points to columns that are not the key of the pair'
      when c.relkind = 'p'
        then 'its table is partitioned: writers would wait until every row is checked'
      when to_jsonb(o) ->> 'conenforced' = 'false' then 'it is not enforced'
      end
  ) w(reason)
  where o.oid = id;
$$;

comment on function crossfade_private.hand_over_key is
  'How a foreign key comes to point to V2: {"reason": why it is not done, "columns", "shown", "sql", "check_sql"}.';

create or replace function crossfade_private.object_reason(
  class regclass, id oid, tree text, is_owners boolean, owner oid, columns text[],
  pair crossfade.pairs
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    crossfade_private.row_reason(class, id, tree, t.v1),
    crossfade_private.reader_reason(case when is_owners
      then array[pg_get_userbyid(owner)::text] else crossfade_private.readers(t.v1) end,
      columns, t.v1, t.v2))
  from (select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass) t(v1, v2);
$$;

comment on function crossfade_private.object_reason is
  'Why what an object sees of V1 may not be what it would see of V2; null when nothing is known. is_owners: it reads with the rights of its owner.';

create or replace function crossfade_private.hand_over_view(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_view pg_catalog.pg_class;
  v_name text;
  v_query text;
  v_head text;
  v_reason text := reason;
  v_sql text;
begin
  select c.* into v_view
  from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class where r.oid = id;
  v_name := v_view.oid::regclass;
  v_query := pg_get_viewdef(v_view.oid);
  v_head := format('%s%s%s as', case v_view.relkind when 'v' then 'create or replace view '
    else 'create materialized view ' end, v_name, (
    select format(' with (%s)', string_agg(format('%I = %L', split_part(o, '=', 1),
      substr(o, strpos(o, '=') + 1)), ', '))
    from unnest(v_view.reloptions) o having count(*) > 0));
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_rewrite', id, (
    select r.ev_action::text from pg_catalog.pg_rewrite r where r.oid = id),
    not exists (
      select from unnest(v_view.reloptions) o
      where split_part(o, '=', 1) = 'security_invoker' and split_part(o, '=', 2)::boolean),
    v_view.relowner, columns, pair));
  if v_reason is null then
    begin
      v_query := crossfade_private.repointed_query(
        v_query, columns, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass);
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  if v_view.relkind = 'm' then
    v_reason := coalesce(v_reason,
      'it has to be dropped and made again, with its indexes, grants and comments');
    v_query := concat_ws(E';\n', rtrim(v_query, ';'), (
      select string_agg(pg_get_indexdef(i.indexrelid), E';\n' order by i.indexrelid::regclass::text)
      from pg_catalog.pg_index i where i.indrelid = v_view.oid)) || ';';
  elsif v_reason is null then
    v_sql := crossfade_private.guarded(format('exists (
    select from pg_class c
    where c.oid = to_regclass(%L) and c.relkind = ''v''
      and md5(concat(c.reloptions, pg_get_viewdef(c.oid))) = %L)', v_name,
      md5(concat(v_view.reloptions, pg_get_viewdef(v_view.oid)))),
      format(E'%s\n%s', v_head, v_query), v_name);
  end if;
  return jsonb_build_object('reason', v_reason, 'sql', v_sql,
    'shown', format(E'%s\n%s', v_head, v_query),
    'note', case when v_sql is not null and pg_relation_is_updatable(v_view.oid, true) <> 0
      then 'Rows can be written through it: from then on into version 2, with its defaults.' end);
end $$;

comment on function crossfade_private.hand_over_view is
  'How a view comes to read V2: {"reason": why it does not, "sql", "shown": its definition, "note"}. id is that of its rule.';

create or replace function crossfade_private.hand_over_function(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_proc pg_catalog.pg_proc;
  v_definition text := pg_get_functiondef(id);
  v_reason text := reason;
  v_new text;
begin
  select p.* into v_proc from pg_catalog.pg_proc p where p.oid = id;
  if v_proc.prosqlbody is null then
    v_reason := 'its body is a text, in which names cannot be told from other words';
  end if;
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_proc', id,
    v_proc.prosqlbody::text, v_proc.prosecdef, v_proc.proowner, columns, pair));
  if v_reason is null then
    begin
      v_new := crossfade_private.repointed_function(
        id, columns, ((pair).v1_table)::regclass, ((pair).v2_table)::regclass);
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object('reason', v_reason, 'shown', rtrim(v_definition, E' \n') || ';',
    'sql', case when v_reason is null then crossfade_private.guarded(format('exists (
    select from pg_proc p
    where p.oid = to_regprocedure(%L) and md5(pg_get_functiondef(p.oid)) = %L)',
      id::regprocedure, md5(v_definition)), v_new, id::regprocedure::text) end);
end $$;

comment on function crossfade_private.hand_over_function is
  'How a function comes to read V2: {"reason": why it does not, "sql", "shown": its definition}.';

create or replace function crossfade_private.policy_change(
  policy pg_catalog.pg_policy, using_text text, check_text text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select concat(
    format('alter policy %I on %s', (policy).polname, ((policy).polrelid)::regclass),
    E'\n  using (' || using_text || ')', E'\n  with check (' || check_text || ')');
$$;

comment on function crossfade_private.policy_change is
  'SQL that gives a policy other expressions; its name, roles, command and comment stay.';

create or replace function crossfade_private.hand_over_policy(
  id oid, columns text[], reason text, pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_2 constant regclass := (pair).v2_table;
  v_policy pg_catalog.pg_policy;
  v_using text;
  v_check text;
  v_reason text := reason;
  v_new text;
begin
  select l.* into v_policy from pg_catalog.pg_policy l where l.oid = id;
  v_using := pg_get_expr(v_policy.polqual, v_policy.polrelid);
  v_check := pg_get_expr(v_policy.polwithcheck, v_policy.polrelid);
  if v_policy.polrelid = v_2 then
    v_reason := 'it is a policy of version 2, which would ask itself';
  end if;
  v_reason := coalesce(v_reason, crossfade_private.object_reason('pg_policy', id,
    concat(v_policy.polqual::text, v_policy.polwithcheck::text), false, null, columns, pair));
  if v_reason is null then
    begin
      -- Proved where a query is, printed as a query prints it; then written as a policy does.
      execute format('create temporary view cf_asked as select from %s where %s',
        v_policy.polrelid::regclass,
        concat_ws(' and ', '(' || v_using || ')', '(' || v_check || ')'));
      perform crossfade_private.repointed_query(
        pg_get_viewdef(to_regclass('pg_temp.cf_asked')), columns, v_1, v_2);
      execute 'drop view pg_temp.cf_asked';
      v_new := crossfade_private.policy_change(v_policy,
        crossfade_private.repointed_text(v_using, v_1, v_2),
        crossfade_private.repointed_text(v_check, v_1, v_2));
    exception when others then
      v_reason := sqlerrm;
    end;
  end if;
  return jsonb_build_object('reason', v_reason,
    'shown', crossfade_private.policy_change(v_policy, v_using, v_check) || ';',
    'sql', case when v_reason is null then crossfade_private.guarded(format('exists (
    select from pg_policy l
    where l.polrelid = to_regclass(%L) and l.polname = %L
      and md5(concat(pg_get_expr(l.polqual, l.polrelid), '';'',
        pg_get_expr(l.polwithcheck, l.polrelid))) = %L)', v_policy.polrelid::regclass,
      v_policy.polname, md5(concat(v_using, ';', v_check))), v_new,
      format('%I of %s', v_policy.polname, v_policy.polrelid::regclass)) end);
end $$;

comment on function crossfade_private.hand_over_policy is
  'How a policy of another table comes to ask V2: {"reason": why it does not, "sql", "shown"}.';

create or replace function crossfade_private.hand_over_publication(id oid, pair crossfade.pairs)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('reason', w.reason, 'shown', n.command || coalesce(' (' || (
      select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
      from pg_catalog.pg_attribute a
      where a.attrelid = t.v1 and a.attnum = any (r.prattrs)) || ')', '')
      || coalesce(' where ' || pg_get_expr(r.prqual, r.prrelid), '') || ';',
    'sql', case when w.reason is null then crossfade_private.guarded(format('exists (
    select from pg_publication p
    where p.pubname = %L and not exists (
      select from pg_publication_rel r
      where r.prpubid = p.oid and r.prrelid = to_regclass(%L)))', p.pubname, (pair).v2_table),
      case when (p.pubupdate or p.pubdelete)
          and not crossfade_private.has_replica_identity(t.v2)
        then crossfade_private.replica_identity_command(t.v2, (pair).v2_key_columns) || E';\n'
        else '' end || n.command, p.pubname) end)
  from pg_catalog.pg_publication p
  cross join lateral (
    select ((pair).v1_table)::regclass, ((pair).v2_table)::regclass
  ) t(v1, v2)
  cross join lateral (
    select format('alter publication %I add table %s', p.pubname, (pair).v2_table)
  ) n(command)
  left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = t.v1
  cross join lateral (
    select case when r.prqual is not null or r.prattrs is not null
      then 'it sends only some rows or columns of version 1' end
  ) w(reason)
  where p.oid = id;
$$;

comment on function crossfade_private.hand_over_publication is
  'How a publication comes to send V2 as well: {"reason": why it does not, "sql", "shown"}.';

create or replace function crossfade_private.hand_over_default(
  id oid, command text, pair crossfade.pairs
)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('shown', command, 'sql', crossfade_private.guarded(format('exists (
    select from pg_attrdef e
    join pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
    join pg_depend u on u.classid = ''pg_attrdef''::regclass and u.objid = e.oid
    join pg_depend o on o.classid = ''pg_class''::regclass and o.objid = u.refobjid
    where u.refclassid = ''pg_class''::regclass and o.refclassid = ''pg_class''::regclass
      and o.deptype in (''a'', ''i'') and o.refobjid = to_regclass(%L)
      and e.adrelid = to_regclass(%L) and a.attname = %L)', (pair).v1_table,
    e.adrelid::regclass, a.attname), rtrim(command, ';'),
    format('%s.%I', e.adrelid::regclass, a.attname)))
  from pg_catalog.pg_attrdef e
  join pg_catalog.pg_attribute a on a.attrelid = e.adrelid and a.attnum = e.adnum
  where e.oid = id;
$$;

comment on function crossfade_private.hand_over_default is
  'How a default comes to need no sequence of V1''s: {"sql", "shown"}.';

create or replace function crossfade_private.hand_over_object(
  kind text, id oid, command text, unlike text[], pair crossfade.pairs
)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_1 constant regclass := (pair).v1_table;
  v_class constant regclass := case kind when 'policy' then 'pg_policy'
    when 'function' then 'pg_proc' else 'pg_rewrite' end;
  v_columns text[] := '{}'::text[];
  -- A view may have more rules than the one that makes it a view.
  v_kind constant text := case when kind = 'view' and exists (
    select from pg_catalog.pg_rewrite r where r.oid = id and r.ev_type <> '1')
    then 'rule' else kind end;
  v_unlike text[];
  v_reason text;
  v_text text;
begin
  if kind in ('view', 'materialized view', 'rule', 'policy', 'function') then
    v_columns := crossfade_private.read_columns(v_class, id, v_1);
    v_text := lower((
      select p.prosrc from pg_catalog.pg_proc p
      where kind = 'function' and p.oid = id and p.prosqlbody is null));
    -- Of a text nobody knows what it reads; a word of it that is a column's name may be one.
    v_unlike := array(
      select c from unnest(unlike) c
      where c = any (v_columns) or v_text ~ format('(?<!\w)%s(?!\w)',
        regexp_replace(lower(c), '([^\w\s])', '\\\1', 'g'))
      order by c);
    if cardinality(v_unlike) > 0 or v_columns && array(
      select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = v_1 and a.attnum < 0)
    then
      v_reason := 'it reads columns that version 2 does not have as they are';
    end if;
  end if;
  return jsonb_build_object('columns', coalesce(v_unlike, '{}')) || jsonb_strip_nulls(case v_kind
    when 'foreign key' then crossfade_private.hand_over_key(id, pair)
    when 'view' then crossfade_private.hand_over_view(id, v_columns, v_reason, pair)
    when 'materialized view' then crossfade_private.hand_over_view(id, v_columns, v_reason, pair)
    when 'function' then crossfade_private.hand_over_function(id, v_columns, v_reason, pair)
    when 'policy' then crossfade_private.hand_over_policy(id, v_columns, v_reason, pair)
    when 'publication' then crossfade_private.hand_over_publication(id, pair)
    when 'default' then crossfade_private.hand_over_default(id, command, pair)
    when 'rule' then jsonb_build_object('reason', coalesce(v_reason,
      'a rule may write version 1'), 'shown', pg_get_ruledef(id))
    when 'trigger' then jsonb_build_object('reason', 'it is settled with the function it calls')
    -- A command often holds a key of the project: it belongs into no file and on no screen.
    when 'cron job' then jsonb_build_object('shown', command,
      'reason', 'its command is a text; see it, then change it with cron.alter_job')
    end);
end $$;

comment on function crossfade_private.hand_over_object is
  'How an object that depends on V1 comes to depend on V2: {"columns": those it reads that V2 does not have as they are, "reason": why nothing is done, "sql", "check_sql": to be run in a later transaction, "shown", "note"}.';

create or replace function crossfade_private.handover_items(pair crossfade.pairs)
returns table (item jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_copied constant text[] := crossfade_private.copied_columns(pair);
  v_unlike constant text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = ((pair).v1_table)::regclass and a.attnum > 0 and not a.attisdropped
      and a.attname::text <> all (v_copied));
  v_found record;
  v_done jsonb;
begin
  for v_found in select d.* from crossfade_private.v1_dependents(pair) d loop
    v_done := crossfade_private.hand_over_object(
      v_found.kind, v_found.id, v_found.command, v_unlike, pair);
    if v_found.is_ignored then
      v_done := v_done - '{sql,check_sql}'::text[] || '{"reason": "it is ignored"}';
    elsif v_done ? 'sql' and not pg_has_role(v_found.owner, 'usage') then
      v_done := v_done - '{sql,check_sql}'::text[] || jsonb_build_object('reason',
        format('it belongs to %s, and %s may not act as that role', v_found.owner, current_user));
    end if;
    item := jsonb_build_object('kind', v_found.kind, 'object', v_found.object,
      'owner', v_found.owner, 'breaks', v_found.breaks, 'is_ignored', v_found.is_ignored)
      || v_done;
    return next;
  end loop;
end $$;

comment on function crossfade_private.handover_items is
  'What depends on a pair''s V1, and what becomes of it: v1_dependents with hand_over_object.';

create or replace function crossfade_private.handover_block(item jsonb, part text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(E'\n',
    crossfade_private.commented(format('%s %s (owner %s) %s', item ->> 'kind', item ->> 'object',
      item ->> 'owner', item ->> 'breaks')),
    crossfade_private.commented(item ->> 'note'),
    case when not item ? part then concat_ws(E'\n',
      crossfade_private.commented(format('TODO: not re-pointed, because %s', item ->> 'reason')),
      crossfade_private.commented('TODO: columns to find in version 2: ' || (
        select string_agg(quote_ident(c), ', ')
        from jsonb_array_elements_text(item -> 'columns') c)),
      crossfade_private.commented(item ->> 'shown')) end,
    item ->> part);
$$;

comment on function crossfade_private.handover_block is
  'What the migration says of one object: its statement, or as comments why there is none.';

create or replace function crossfade_private.handover_file(head text, body text)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  -- What is printed, and compared with what was printed, hangs on these.
  select crossfade_private.commented(head) || E'\n\n'
    || string_agg(format('set %s = %s;', s.name, s.value), E'\n' order by s.n) || E'\n\n'
    || body || E'\n\n'
    || string_agg(format('reset %s;', s.name), E'\n' order by s.n) || E'\n'
  from (values
    (1, 'search_path', 'pg_catalog, pg_temp'), (2, 'lock_timeout', '''2s'''),
    (3, 'quote_all_identifiers', 'off'), (4, 'timezone', '''UTC'''),
    (5, 'datestyle', '''ISO, MDY'''), (6, 'intervalstyle', '''postgres'''),
    (7, 'extra_float_digits', '1'), (8, 'bytea_output', '''hex''')) s(n, name, value);
$$;

comment on function crossfade_private.handover_file is
  'Statements with the settings that they need, and what is to be known of them; null without any.';

create or replace function crossfade.handover_plan(pair text)
returns jsonb
language plpgsql volatile -- what it offers is proved on temporary objects
security definer -- reads the catalog as the owner; only service_role may call it
set search_path = pg_catalog, pg_temp
set jit = off
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set quote_all_identifiers = off
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_items jsonb := (
    select coalesce(jsonb_agg(i.item), '[]') from crossfade_private.handover_items(v_pair) i);
  v_sql text;
  v_check text;
begin
  select string_agg(crossfade_private.handover_block(i, 'sql'), E'\n\n' order by n),
    string_agg(crossfade_private.handover_block(i, 'check_sql'), E'\n\n' order by n)
      filter (where i ? 'check_sql')
  into v_sql, v_check
  from jsonb_array_elements(v_items) with ordinality u(i, n);
  return jsonb_build_object(
    'pair', v_pair.name, 'stage', v_pair.stage, 'v1_table', v_pair.v1_table,
    'v2_table', v_pair.v2_table,
    'objects', (
      select coalesce(jsonb_agg(i - '{sql,check_sql,shown,note}'::text[]
        || jsonb_build_object('is_repointed', i ? 'sql') order by n), '[]')
      from jsonb_array_elements(v_items) with ordinality u(i, n)),
    'sql', crossfade_private.handover_file(format(
      'Hand-over of pair %s: what depended on %s depends on %s afterwards.
Written by: crossfade handover plan %1$s
Each statement looks first whether its object is still as it was, and does nothing the second time.
What stands in comments was not provably right: decide it, then write it.', v_pair.name,
      v_pair.v1_table, v_pair.v2_table),
      format(E'do %s;\n\n', crossfade_private.dollar_quoted(format(
        'begin
  if to_regclass(''crossfade.pairs'') is not null then
    if exists (
      select from crossfade.pairs p
      where p.name = %L and p.stage in (''off'', ''dualwrite'', ''shadow''))
      and exists (select from %s)
    then
      raise exception ''pair %% is not in stage live yet'', %1$L
        using hint = ''Until then version 2 may be empty or behind.'';
    end if;
  end if;
end', v_pair.name, v_pair.v1_table))) || v_sql),
    'check_sql', crossfade_private.handover_file(format(
      'Hand-over of pair %s: the rows there are, checked by the foreign keys that point to %s now.
In a transaction of its own, after the other one: writers do not wait for it.', v_pair.name,
      v_pair.v2_table), v_check));
end $$;

comment on function crossfade.handover_plan is
  'What depends on V1, and the migration that lets it depend on V2: {"pair", "stage", "v1_table", "v2_table", "objects": [{"kind", "object", "owner", "breaks", "is_ignored", "is_repointed", "reason": why not, "columns": those it reads that V2 does not have as they are}], "sql", "check_sql": for a transaction after that one; both null when there is nothing to do}. Changes nothing. CF001.';

-- What becomes of edits: laws 3 (an edit wins) and 4 (what it did not touch survives). The edits
-- are made of the rows at hand: a row gets the values of the next one, in all columns or in one.

create or replace function crossfade_private.edited_sql(
  tab regclass, key text[], one_sql text, other_sql text
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- By a hash of the key: a row gets the same edit whichever rows are looked at with it.
  select format('(select %s)', string_agg(case
    when c.is_key then format('(%s).%I as %2$I', one_sql, c.attname)
    else format('case when cf_n.cf_edit %% 2 = 0 or cf_n.cf_edit / 2 %% %s = %s
      then (%s).%I else (%s).%4$I end as %4$I', c.number, c.place, other_sql, c.attname, one_sql)
    end, ', ' order by c.attnum))
  from (
    select a.attname, a.attnum, k.is_key, count(*) over (partition by k.is_key) as number,
      row_number() over (partition by k.is_key order by a.attnum) - 1 as place
    from pg_catalog.pg_attribute a
    cross join lateral (select a.attname = any (key)) k(is_key)
    where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  ) c;
$$;

comment on function crossfade_private.edited_sql is
  'An item of FROM with the columns of a row, all but the key or one of them taken from another row; by cf_n.cf_edit.';

create or replace function crossfade_private.lost_columns_sql(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- What a fresh conversion makes alike of the row before and after the edit hangs on nothing that
  -- was edited.
  select format('array_remove(array[%s]::text[], null)', string_agg(
    format('case when %s and not %s then %L end', d.breaks, f.breaks, d.name), ', '))
  from crossfade_private.column_differences(tab, '(cf_g.cf_other)', '(cf_o.cf_row)') d
  join crossfade_private.column_differences(tab, 'cf_fresh_1', 'cf_fresh_2') f using (name);
$$;

comment on function crossfade_private.lost_columns_sql is
  'SQL for the names of the columns of a counterpart that an edit changed and does not feed.';

create or replace function crossfade_private.kept_columns_sql(tab regclass)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format('(select %s)', string_agg(format(
    'case when %L = any (cf_l.cf_lost) then (cf_g.cf_other).%I else (cf_o.cf_row).%2$I end as %2$I',
    a.attname, a.attname), ', ' order by a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid = tab and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
$$;

comment on function crossfade_private.kept_columns_sql is
  'An item of FROM with the edited counterpart as it would be, had it kept what lost_columns_sql names.';

create or replace function crossfade_private.rows_before_edit_sql(pieces jsonb, of_source boolean)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render(case when of_source then $sql$(
      select cf_n.cf_row, cf_p.cf_row as cf_next, coalesce(cf_r.cf_row, cf_m.cf_row) as cf_other
      from {made_first} cf_c
      cross join lateral {stored_first} cf_m
      -- The stored counterpart, which may hold more than can be made of the row, if it agrees.
      left join lateral (
        select cf_t as cf_row
        from {target} cf_t
        cross join lateral {convert} cf_n.cf_row {with} cf_t {converted} cf_x
        where ({tkey_t}) = ({skey_n}) and {unlike_stored} = '{}' limit 1) cf_r on true
      where cf_m.cf_broken = '{}' offset 0)$sql$
    else $sql$(
      select cf_m.cf_row, cf_m2.cf_row as cf_next, cf_n.cf_row as cf_other
      from {made_first} cf_c
      cross join lateral {stored_first} cf_m
      cross join lateral {made_second} cf_c2
      cross join lateral {stored_second} cf_m2
      where cf_m.cf_broken = '{}' and cf_m2.cf_broken = '{}' offset 0)$sql$ end,
    pieces || jsonb_build_object(
      'made_first', crossfade_private.made_sql(crossfade_private.render(
        '{convert} cf_n.cf_row {with} null::{target} {converted}', pieces), 'true'),
      'made_second', crossfade_private.made_sql(crossfade_private.render(
        '{convert} cf_p.cf_row {with} null::{target} {converted}', pieces), 'true'),
      'stored_first', crossfade_private.stored_sql(t.tab, 'cf_c', '{}'),
      'stored_second', crossfade_private.stored_sql(t.tab, 'cf_c2', '{}'),
      'unlike_stored', crossfade_private.differing_columns_sql(
        t.tab, 'cf_t', 'cf_x', laws => true)))
  from (select (pieces ->> 'target')::regclass) t(tab);
$outer$;

comment on function crossfade_private.rows_before_edit_sql is
  'An item of FROM: the row that is edited, cf_row, the one that it gets values from, cf_next, and the counterpart, cf_other; of_source says which side writes.';

create or replace function crossfade_private.edit_pieces(
  pieces jsonb, side integer, of_source boolean
)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tab constant regclass := pieces ->> case when of_source then 'source' else 'target' end;
  v_other constant regclass := pieces ->> case when of_source then 'target' else 'source' end;
  v_there constant text := case when of_source then '{convert} %s {with} %s {converted}'
    else '{convert_back} %s {with_back} %s {converted_back}' end;
  v_back constant text := format(case when of_source
    then '{convert_back} %s {with_back} %s {converted_back}'
    else '{convert} %s {with} %s {converted}' end, '%s',
    -- V2 holds all that V1 can show, so an edit of V1 must come back also with the row as it was.
    case when (side = 1) = of_source then 'cf_g.cf_row' else 'cf_u.cf_row' end);
  v_none constant text := case when of_source then 'null::{target}' else 'null::{source}' end;
  v_made record;
  v_pieces jsonb := '{}'::jsonb;
begin
  for v_made in
    select m.name, crossfade_private.made_sql(crossfade_private.render(m.conversion, pieces),
      m.condition || '.cf_broken = ''{}''') as sql
    from (values
      ('made', format(v_there, 'cf_u.cf_row', 'cf_g.cf_other'), 'cf_u'),
      ('made_back', format(v_back, 'cf_o.cf_row'), 'cf_o'),
      ('made_again', format(v_there, 'cf_u.cf_row', 'cf_o.cf_row'), 'cf_o'),
      ('made_fresh_1', format(v_there, 'cf_g.cf_row', v_none), 'cf_o'),
      ('made_fresh_2', format(v_there, 'cf_u.cf_row', v_none), 'cf_o'),
      ('made_kept', format(v_back, 'cf_h.cf_row'), 'cf_h')) m(name, conversion, condition)
  loop
    v_pieces := v_pieces || jsonb_build_object(v_made.name, v_made.sql);
  end loop;
  return pieces || v_pieces || jsonb_build_object(
    'before', crossfade_private.rows_before_edit_sql(pieces, of_source),
    'edit', crossfade_private.edited_sql(v_tab, array(select jsonb_array_elements_text(
      pieces -> case when of_source then 'source_key_names' else 'target_key_names' end)),
      'cf_g.cf_row', 'cf_g.cf_next'),
    'stored', crossfade_private.stored_sql(v_tab, 'cf_w', '{}'),
    'stored_other', crossfade_private.stored_sql(v_other, 'cf_c', '{}'),
    'stored_kept', crossfade_private.stored_sql(v_other, 'cf_k', '{}'),
    'lost', crossfade_private.lost_columns_sql(v_other),
    'kept', crossfade_private.kept_columns_sql(v_other),
    'edited', crossfade_private.differing_columns_sql(v_tab, '(cf_g.cf_row)', '(cf_u.cf_row)'),
    'unlike', crossfade_private.differing_columns_sql(v_tab, '(cf_u.cf_row)', 'cf_d', laws => true),
    'unlike_again', crossfade_private.differing_columns_sql(
      v_other, '(cf_o.cf_row)', 'cf_e', laws => true),
    'unlike_kept', crossfade_private.differing_columns_sql(
      v_tab, '(cf_u.cf_row)', 'cf_i', laws => true));
end $$;

comment on function crossfade_private.edit_pieces is
  'The pieces of edit_laws_sql; of_source says whether the side that is checked writes, or the other one.';

create or replace function crossfade_private.edit_laws_sql(
  pieces jsonb, side integer, of_source boolean
)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $outer$
  select crossfade_private.render($sql$
    select cf_n.cf_key as key, cf_v.*,
      crossfade_private.shown_columns(cf_u.cf_row, {edited}) as edit
    from (select cf_n.*, hashtext(cf_n.cf_key::text) & 2147483647 as cf_edit from {rows} cf_n) cf_n
    join lateral (
      select cf_s as cf_row, {skey_json_s} as cf_key from {source} cf_s
      where ({skey_s}) > ({skey_n}) and ({skey_s}) <= ({skey_4}) order by {skey_s} limit 1
    ) cf_p on cf_p.cf_key not in (select jsonb_array_elements($3))
    cross join lateral {before} cf_g
    cross join lateral {edit} cf_w
    cross join lateral {stored} cf_u
    cross join lateral {made} cf_c
    cross join lateral {stored_other} cf_o
    left join lateral {made_back} cf_d on true
    left join lateral {made_again} cf_e on true
    left join lateral {made_fresh_1} cf_fresh_1 on true
    left join lateral {made_fresh_2} cf_fresh_2 on true
    left join lateral (
      select {lost} as cf_lost where cf_fresh_1.cf_is and cf_fresh_2.cf_is offset 0) cf_l on true
    left join lateral (
      select cf_k.* from {kept} cf_k where cf_l.cf_lost <> '{}' offset 0) cf_k on true
    left join lateral {stored_kept} cf_h on cf_l.cf_lost <> '{}'
    left join lateral {made_kept} cf_i on true
    cross join lateral (
      select 7 as law, cf_o.cf_broken as columns, null::jsonb as stored,
        crossfade_private.shown_columns(cf_c, '{}') - 'cf_is'::text - 'cf_number'::text as converted
      where cf_o.cf_broken <> '{}'
      union all
      select 3, cf_q.columns, crossfade_private.shown_columns(cf_u.cf_row, cf_q.columns),
        crossfade_private.shown_columns(cf_d, cf_q.columns)
      from (select {unlike}) cf_q(columns)
      where cf_o.cf_broken = '{}' and cf_q.columns <> '{}'
      union all
      select 3, cf_q.columns, crossfade_private.shown_columns(cf_o.cf_row, cf_q.columns),
        crossfade_private.shown_columns(cf_e, cf_q.columns)
      from (select {unlike_again}) cf_q(columns)
      where cf_o.cf_broken = '{}' and cf_q.columns <> '{}'
      union all
      -- A counterpart that keeps them would have shown the edit as well.
      select 4, cf_l.cf_lost, crossfade_private.shown_columns(cf_g.cf_other, cf_l.cf_lost),
        crossfade_private.shown_columns(cf_o.cf_row, cf_l.cf_lost)
      where cf_o.cf_broken = '{}' and cf_i.cf_is and {unlike_kept} = '{}'
    ) cf_v
    where cf_u.cf_broken = '{}'
  $sql$, crossfade_private.edit_pieces(pieces, side, of_source));
$outer$;

comment on function crossfade_private.edit_laws_sql is
  'Laws 3 and 4, and 7 for what an edit makes. In it cf_g is the row before the edit with its counterpart, cf_u the edited row, cf_o the counterpart that is made of it, cf_d what comes back, cf_e the same edit again.';

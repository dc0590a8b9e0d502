-- Converters in the statements of runs, which are put together from pieces.

create or replace function crossfade_private.conversion_pieces(
  converter text, source regclass, target regclass, suffix text
)
returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select case when c.conversion ? 'why' then '{}' else jsonb_build_object(
      'convert' || suffix, '(select cf_made.* from (select ',
      'with' || suffix, ' as cf_row, ',
      'converted' || suffix, format(
        ' as cf_counterpart) cf_given cross join lateral %s cf_made)',
        crossfade_private.convert_sql(
          c.conversion, 'cf_given.cf_row', 'cf_given.cf_counterpart'))) end
    || jsonb_build_object('called' || suffix, c.conversion -> 'why')
  from crossfade_private.conversion(converter, source, target) c(conversion);
$$;

comment on function crossfade_private.conversion_pieces is
  'The pieces convert, with and converted (plus suffix) that put the text of a converter into a statement; only called (plus suffix), which says why, when it has to be called. Locks both tables ACCESS SHARE.';

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

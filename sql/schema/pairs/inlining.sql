-- Converters in the statements of runs, which are put together from pieces.

create or replace function crossfade_private.conversion_pieces(conversion jsonb, suffix text)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when conversion ? 'why' then '{}' else jsonb_build_object(
      'convert' || suffix, '(select cf_made.* from (select ',
      'with' || suffix, ' as cf_row, ',
      'converted' || suffix, format(
        ' as cf_counterpart) cf_given cross join lateral %s cf_made)',
        crossfade_private.convert_sql(
          conversion, 'cf_given.cf_row', 'cf_given.cf_counterpart'))) end
    || jsonb_build_object('called' || suffix, conversion -> 'why');
$$;

comment on function crossfade_private.conversion_pieces is
  'The pieces convert, with and converted (plus suffix) that put the text of a converter into a statement; only called (plus suffix), which says why, when it has to be called.';

create or replace function crossfade_private.counterpart_reads(conversion jsonb)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when conversion -> 'items' <> 'null' then (
      select case when bool_or(i -> 'reads_old' = 'null') then null
        else coalesce(jsonb_agg(distinct c) filter (where c is not null), '[]') end
      from jsonb_array_elements(conversion -> 'items') i
      left join lateral jsonb_array_elements(nullif(i -> 'reads_old', 'null')) c on true)
    when strpos(conversion ->> 'text', chr(4)) = 0
      and strpos(conversion ->> 'text', 'cf_counterpart') = 0 then '[]'
    end;
$$;

comment on function crossfade_private.counterpart_reads is
  'The columns that a converter reads of the stored counterpart; null when it may be any.';

create or replace function crossfade_private.inlined_pieces(conversions jsonb, side integer)
returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select crossfade_private.conversion_pieces(conversions -> (side - 1), '')
    || crossfade_private.conversion_pieces(conversions -> (2 - side), '_back');
$$;

comment on function crossfade_private.inlined_pieces is
  'Pieces that replace calls of the converters of a pair by their text, with side as the source. A converter that is replaced later is taken up by registering the pair again.';

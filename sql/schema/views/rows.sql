-- The rows behind a difference.

create or replace function crossfade.show_rows(pair text, key jsonb)
returns jsonb
language plpgsql stable
security definer -- reads the owner's tables; operators and the secret key only
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_pair crossfade.pairs := crossfade_private.get_pair(pair);
  v_pieces jsonb := crossfade_private.run_pieces(v_pair, 'v1_to_v2');
  v_v1 jsonb;
  v_v2 jsonb;
begin
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {source} cf_t where ({skey_t}) = ({skey_1})', v_pieces)
  into v_v1 using key;
  execute crossfade_private.render(
    'select to_jsonb(cf_t) from {target} cf_t where ({tkey_t}) = ({skey_1})', v_pieces)
  into v_v2 using key;
  return jsonb_build_object('pair', pair, 'key', key, 'v1', v_v1, 'v2', v_v2);
end $$;

comment on function crossfade.show_rows is
  'Both rows of a key (V1 column names): {"pair", "key", "v1": row or null, "v2": row or null}. Holds the user''s data. CF001; 22P02 for a key of another type.';

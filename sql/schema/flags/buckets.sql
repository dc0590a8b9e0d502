-- The bucket of a unit. The same algorithm exists in TypeScript and Python; tests/vectors pins
-- all three.

create or replace function crossfade.bucket(cohort_key text, unit text)
returns integer
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  -- murmur3_x86_32 with seed 0 over UTF-8. In here and not in a function of its own: the call would
  -- cost a third more.
  v_bytes bytea := convert_to(cohort_key || ':' || unit, 'UTF8');
  v_length integer := length(v_bytes);
  v_hash bigint := 0;
  v_block bigint;
  v_at integer := 0;
begin
  while v_at < v_length loop
    v_block := get_byte(v_bytes, v_at);
    if v_at + 4 <= v_length then
      v_block := v_block | (get_byte(v_bytes, v_at + 1) << 8) | (get_byte(v_bytes, v_at + 2) << 16)
        | (get_byte(v_bytes, v_at + 3)::bigint << 24);
    else
      if v_at + 1 < v_length then
        v_block := v_block | (get_byte(v_bytes, v_at + 1) << 8);
      end if;
      if v_at + 2 < v_length then
        v_block := v_block | (get_byte(v_bytes, v_at + 2) << 16);
      end if;
    end if;
    -- SAFETY: a product of two 32-bit numbers overflows bigint, so the left one is split in halves.
    v_block := ((v_block & 65535) * 3432918353
      + (((v_block >> 16) * 3432918353 & 65535) << 16)) & 4294967295;
    v_block := (v_block << 15 & 4294967295) | (v_block >> 17);
    v_hash := v_hash # (((v_block & 65535) * 461845907
      + (((v_block >> 16) * 461845907 & 65535) << 16)) & 4294967295);
    if v_at + 4 <= v_length then
      v_hash := (((v_hash << 13 & 4294967295) | (v_hash >> 19)) * 5 + 3864292196) & 4294967295;
    end if;
    v_at := v_at + 4;
  end loop;
  v_hash := v_hash # v_length;
  v_hash := v_hash # (v_hash >> 16);
  v_hash := ((v_hash & 65535) * 2246822507
    + (((v_hash >> 16) * 2246822507 & 65535) << 16)) & 4294967295;
  v_hash := v_hash # (v_hash >> 13);
  v_hash := ((v_hash & 65535) * 3266489909
    + (((v_hash >> 16) * 3266489909 & 65535) << 16)) & 4294967295;
  v_hash := v_hash # (v_hash >> 16);
  return v_hash % 100 * 1000 + v_hash / 100 % 1000;
end $$;

comment on function crossfade.bucket is
  'Fixed number 0 to 99999 of a unit: h = murmur3_x86_32(utf8(cohort_key:unit)), h % 100 * 1000 + h / 100 % 1000; the unit is in when bucket < percentage * 1000. Equals Unleash at whole percentages. Null when an argument is null.';

-- The worked pair: chat messages move from plain text with loose metadata (V1, chat_messages) to
-- typed JSON blocks (V2, chat_messages_v2). Apply it after crossfade's migrations; applying it
-- again is harmless.
--
-- The conversion is a lens. V2 can hold everything that V1 holds, so
--   * to_v1 reads the V2 row alone: a V1 row is a view of it;
--   * to_v2 puts a V1 row back: every part (a column, the text, one metadata key) whose view is
--     unchanged keeps what the stored V2 row has, and every other part is rebuilt from V1. So an
--     edit wins and nothing else is touched.
-- A metadata key is understood only when its value has exactly the shape that converts back;
-- otherwise it waits untouched in metadata.legacy. The same rules in TypeScript:
-- functions/chat/adapters/message_adapter.ts, held together by tests/vectors/messages_*.json.

create table if not exists public.chats (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid(),
  title text,
  created_at timestamptz not null default now()
);

create index if not exists chats_user_id_idx on public.chats (user_id);

comment on table public.chats is 'Conversations. Both message tables point here.';

-- Shared, so that messages written through either table have one order, also when their timestamps
-- are equal.
create sequence if not exists public.chat_messages_seq;

create table if not exists public.chat_messages (
  id uuid primary key default gen_random_uuid(),
  chat_id uuid not null references public.chats on delete cascade,
  user_id uuid default auth.uid(),
  role text not null,
  content text not null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz,
  sequence_number integer default nextval('public.chat_messages_seq'),
  constraint role_is_known_to_v1 check (role in ('user', 'assistant', 'system')),
  constraint metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
);

create index if not exists chat_messages_chat_id_created_at_idx
  on public.chat_messages (chat_id, created_at, sequence_number);
create index if not exists chat_messages_user_id_idx on public.chat_messages (user_id);

comment on table public.chat_messages is 'V1 messages: plain text, and everything else flat in metadata.';
comment on column public.chat_messages.sequence_number is
  'Order within the chat; null when the V2 row has none or one too large for an integer.';

create table if not exists public.chat_messages_v2 (
  id uuid primary key default gen_random_uuid(),
  chat_id uuid not null references public.chats on delete cascade,
  user_id uuid default auth.uid(),
  seq bigint default nextval('public.chat_messages_seq'),
  -- No foreign key: the parent's mirrored row may be written later.
  parent_id uuid,
  role text not null,
  status text not null default 'complete',
  content jsonb not null,
  metadata jsonb not null default '{}',
  model text,
  usage jsonb,
  finish_reason text,
  error jsonb,
  schema_version smallint not null default 2,
  created_at timestamptz not null default now(),
  updated_at timestamptz,
  edited_at timestamptz,
  deleted_at timestamptz,
  constraint role_is_known_to_v2 check (
    role in ('system', 'developer', 'user', 'assistant', 'tool')
  ),
  constraint status_is_known check (
    status in ('pending', 'streaming', 'complete', 'incomplete', 'error', 'cancelled')
  ),
  constraint content_is_an_array check (jsonb_typeof(content) = 'array'),
  constraint metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  constraint usage_is_an_object check (jsonb_typeof(usage) = 'object'),
  constraint error_is_an_object check (jsonb_typeof(error) = 'object'),
  constraint schema_version_is_2 check (schema_version = 2)
);

create index if not exists chat_messages_v2_chat_id_created_at_idx
  on public.chat_messages_v2 (chat_id, created_at, seq);
create index if not exists chat_messages_v2_user_id_idx on public.chat_messages_v2 (user_id);

comment on table public.chat_messages_v2 is 'V2 messages: content is an ordered array of typed blocks.';
comment on column public.chat_messages_v2.metadata is
  'Free; legacy holds the V1 metadata keys that have no place of their own in V2.';
comment on column public.chat_messages_v2.seq is 'Order within the chat; null when the message came from a V1 row without.';

-- Helpers of the converters, outside the exposed schema -------------------------------------------

create schema if not exists chat_private;

comment on schema chat_private is 'Helpers of the chat_messages converters; not for the Data API.';

create or replace function chat_private.canonical(value jsonb)
returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  -- By regular expression and not by recursion: however deep the value, this cannot exhaust the
  -- stack. First the blanks outside strings go, then zeros at the end of fractions.
  select regexp_replace(
    regexp_replace(value::text, '("(?:\\.|[^"\\])*")| ', '\1', 'g'),
    '("(?:\\.|[^"\\])*")|(\.[0-9]*[1-9])0+(?![0-9])|\.0+(?![0-9])', '\1\2', 'g')
$$;

comment on function chat_private.canonical is
  'Compact JSON text; keys ordered by length in UTF-8 bytes, then by bytes (as jsonb keeps them); numbers in plain decimals.';

create or replace function chat_private.json_depth(raw text)
returns bigint
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(d.depth), 0)
  from (
    select sum(case when c.bracket in ('{', '[') then 1 else -1 end) over (order by c.n) depth
    from regexp_split_to_table(
      regexp_replace(regexp_replace(raw, '"(?:\\.|[^"\\])*"', '', 'g'), '[^][{}]', '', 'g'), ''
    ) with ordinality c(bracket, n)
    where c.bracket <> ''
  ) d
$$;

comment on function chat_private.json_depth is 'How deep a JSON text nests; brackets inside strings do not count.';

create or replace function chat_private.parse_object(raw text)
returns jsonb
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The JSON parser recurses and would raise on very deep input; counting brackets is the cheap
  -- first look.
  if raw !~ '^[ \t\n\r]*\{'
    or length(raw) - length(translate(raw, '{[', '')) > 512
      and chat_private.json_depth(raw) > 512 then
    return null;
  end if;
  if current_setting('server_version_num')::integer >= 160000 then
    return case when pg_input_is_valid(raw, 'jsonb') then raw::jsonb end;
  end if;
  begin
    return raw::jsonb;
  exception when others then
    return null;
  end;
end $$;

comment on function chat_private.parse_object is
  'The JSON object in a text; null when it is not one, nests deeper than 512, or holds what jsonb refuses. Never raises.';

do $$
begin
  -- PostgreSQL 15 can test JSON only by catching the error, which needs a subtransaction:
  -- impossible in parallel mode.
  if current_setting('server_version_num')::integer < 160000 then
    alter function chat_private.parse_object(text) parallel unsafe;
  end if;
end $$;

create or replace function chat_private.is_count(value jsonb)
returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_number numeric;
begin
  if value is null or jsonb_typeof(value) <> 'number' then
    return false;
  end if;
  v_number := (value #>> '{}')::numeric;
  -- At most 2^53 - 1, so that JavaScript agrees.
  return v_number between 0 and 9007199254740991 and v_number = trunc(v_number);
end $$;

comment on function chat_private.is_count is 'Whether a JSON value is a whole number from 0 to 2^53 - 1.';

-- The two that follow are called for nearly every row, so each is one expression without a call:
-- strict paths, or an array would be taken for its elements; silent, or an odd value would raise.

create or replace function chat_private.tokens_of(usage jsonb)
returns jsonb
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(jsonb_strip_nulls(jsonb_build_object(
    'prompt', jsonb_path_query_first(usage, 'strict $.input_tokens ? (@.type() == "number"
      && @ >= 0 && @ <= 9007199254740991 && @ == @.floor())', silent => true),
    'completion', jsonb_path_query_first(usage, 'strict $.output_tokens ? (@.type() == "number"
      && @ >= 0 && @ <= 9007199254740991 && @ == @.floor())', silent => true),
    'total', jsonb_path_query_first(usage, 'strict $.total_tokens ? (@.type() == "number"
      && @ >= 0 && @ <= 9007199254740991 && @ == @.floor())', silent => true))), '{}');
end $$;

comment on function chat_private.tokens_of is
  'V1 metadata.tokens that shows a V2 usage: those of its counts that are whole numbers from 0 to 2^53 - 1 (is_count); null when none is.';

create or replace function chat_private.usage_of(tokens jsonb)
returns jsonb
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Exactly when tokens_of gives the same value back.
  return case when jsonb_typeof(tokens) = 'object' and tokens <> '{}'
    and tokens - array['prompt', 'completion', 'total'] = '{}'
    and not jsonb_path_exists(tokens, 'strict $.* ? (@.type() != "number"
      || @ < 0 || @ > 9007199254740991 || @ != @.floor())', silent => true)
    then jsonb_strip_nulls(jsonb_build_object('input_tokens', tokens -> 'prompt',
      'output_tokens', tokens -> 'completion', 'total_tokens', tokens -> 'total')) end;
end $$;

comment on function chat_private.usage_of is 'V2 usage for V1 metadata.tokens; null when it has any other shape.';

create or replace function chat_private.is_recognised(key text, value jsonb)
returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(case
    when key in ('model', 'finish_reason', 'reasoning', 'error', 'tool_call_id', 'name') then
      jsonb_typeof(value) = 'string'
    when key = 'parent_id' then
      jsonb_typeof(value) = 'string'
      and value #>> '{}' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
    -- false would come back as an absent key.
    when key = 'edited' then value = 'true'
    when key = 'tokens' then chat_private.usage_of(value) is not null
    when key = 'function_call' then case when jsonb_typeof(value) = 'object' then
      jsonb_typeof(value -> 'name') = 'string' and jsonb_typeof(value -> 'arguments') = 'string'
      and value - array['name', 'arguments'] = '{}' end
    when jsonb_typeof(value) <> 'array' or value = '[]' then false
    when key = 'tool_calls' then not exists (
      select from jsonb_array_elements(value) e
      where e.value is distinct from jsonb_build_object('id', e.value -> 'id', 'type', 'function',
          'function', e.value -> 'function')
        or jsonb_typeof(e.value -> 'id') <> 'string'
        or not chat_private.is_recognised('function_call', e.value -> 'function'))
    when key = 'images' then not exists (
      select from jsonb_array_elements(value) e where jsonb_typeof(e.value) <> 'string')
    when key = 'attachments' then not exists (
      select from jsonb_array_elements(value) e
      where jsonb_typeof(e.value) <> 'object'
        or case when jsonb_typeof(e.value) = 'object' then
          e.value - array['url', 'name', 'content_type', 'size'] <> '{}' end
        or coalesce(jsonb_typeof(e.value -> 'url'), '') <> 'string'
        or jsonb_typeof(e.value -> 'name') <> 'string'
        or jsonb_typeof(e.value -> 'content_type') <> 'string'
        or e.value ? 'size' and not chat_private.is_count(e.value -> 'size'))
  end, false)
$$;

comment on function chat_private.is_recognised is
  'Whether a V1 metadata value has exactly the shape that V2 can hold and give back.';

create or replace function chat_private.tool_result_place(content jsonb, role text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case when role = 'tool' then (
    select (min(e.n) - 1)::text from jsonb_array_elements(content) with ordinality e(block, n)
    where e.block ->> 'type' = 'tool_result') end
$$;

comment on function chat_private.tool_result_place is
  'Index (from 0) of the tool result that V1 shows: the first one of a tool row; null when there is none.';

-- Text: several blocks, one V1 string -------------------------------------------------------------

create or replace function chat_private.text_of(block jsonb, kind text, role text)
returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type text := block ->> 'type';
begin
  if v_type = 'tool_result' and kind = 'content' and role = 'tool' then
    return case jsonb_typeof(block -> 'output') when 'string' then block ->> 'output' when 'null'
      then null
      else chat_private.canonical(block -> 'output') end;
  elsif (case kind when 'reasoning' then v_type = 'reasoning'
    else v_type in ('text', 'refusal') end)
    and jsonb_typeof(block -> 'text') = 'string' then
    return block ->> 'text';
  end if;
  return null;
end $$;

comment on function chat_private.text_of is
  'What a block adds to the V1 content (kind content) or to metadata.reasoning (kind reasoning); null when nothing.';

create or replace function chat_private.with_text(block jsonb, kind text, new_text text)
returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case
    when block ->> 'type' = 'tool_result' then block || jsonb_build_object('output', new_text)
    -- The offsets of annotations belong to the old text.
    when kind = 'content' and new_text is not null
      then (block - 'annotations') || jsonb_build_object('text', new_text)
    when new_text is not null then block || jsonb_build_object('text', new_text)
      -- The signature is of the old text; it is kept, because a provider may still want it back.
      || case when block ?| array['signature', 'encrypted']
        and coalesce(jsonb_typeof(block -> 'extras'), 'object') = 'object'
        then jsonb_build_object('extras', coalesce(block -> 'extras', '{}') || '{"stale": true}')
          else '{}' end
    when kind = 'reasoning' and block - array['type', 'id', 'text', 'extras'] <> '{}'
      then block - 'text'
  end
$$;

comment on function chat_private.with_text is
  'The block with another text; new_text null takes the text away, and the result is null when then nothing is left.';

create or replace function chat_private.put_text(content jsonb, kind text, role text, new_text text)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_places integer[];
  v_texts text[];
  v_count integer;
  v_head text := '';
  v_tail text := '';
  v_kept_head integer := 0;
  v_kept_tail integer := 0;
  v_next text;
begin
  select coalesce(array_agg(e.n order by e.n), '{}'), array_agg(t.text order by e.n) into v_places,
    v_texts
  from jsonb_array_elements(content) with ordinality e(block, n)
  cross join lateral (select chat_private.text_of(e.block, kind, role) as text) t
  where t.text is not null;
  v_count := cardinality(v_places);
  if v_count = 0 then
    return chat_private.add_text(content, kind, role, new_text);
  end if;
  -- Blocks that the edit left alone at the beginning and at the end stay; what lies between becomes
  -- one block.
  while v_kept_head < v_count - 1 loop
    v_next := v_head || v_texts[v_kept_head + 1] || E'\n\n';
    exit when not coalesce(starts_with(new_text, v_next), false);
    v_head := v_next;
    v_kept_head := v_kept_head + 1;
  end loop;
  while v_kept_tail < v_count - 1 - v_kept_head loop
    v_next := E'\n\n' || v_texts[v_count - v_kept_tail] || v_tail;
    exit when length(v_head) + length(v_next) > length(new_text)
      or right(new_text, length(v_next)) <> v_next
      or new_text is null;
    v_tail := v_next;
    v_kept_tail := v_kept_tail + 1;
  end loop;
  return (
    select coalesce(jsonb_agg(r.block order by e.n), '[]')
    from jsonb_array_elements(content) with ordinality e(block, n)
    cross join lateral (select array_position(v_places, e.n::integer) as place) p
    cross join lateral (select case
      when p.place is null or p.place <= v_kept_head or p.place > v_count - v_kept_tail then e.block
      when p.place = v_kept_head + 1 then chat_private.with_text(e.block, kind,
        substr(new_text, length(v_head) + 1, length(new_text) - length(v_head) - length(v_tail)))
      else chat_private.with_text(e.block, kind, null)
    end as block) r
    where r.block is not null);
end $$;

comment on function chat_private.put_text is
  'Blocks whose joined text is new_text (null: none), changing no more blocks than the edit touched.';

create or replace function chat_private.add_text(content jsonb, kind text, role text, new_text text)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_place text := chat_private.tool_result_place(content, role);
begin
  if new_text is null then
    return content;
  elsif kind = 'reasoning' then
    return jsonb_build_array(jsonb_build_object('type', 'reasoning', 'text', new_text)) || content;
  end if;
  if v_place is not null then
    return jsonb_set(content, array[v_place, 'output'], to_jsonb(new_text));
  end if;
  select min(e.n) - 1 into v_place from jsonb_array_elements(content) with ordinality e(block, n)
  where e.block ->> 'type' is distinct from 'reasoning';
  return jsonb_insert(content, array[coalesce(v_place, jsonb_array_length(content)::text)],
    jsonb_build_object('type', 'text', 'text', new_text));
end $$;

comment on function chat_private.add_text is
  'The first text of a row: reasoning in front, content behind the leading reasoning or into the tool result.';

-- Lists: one block each, one V1 array -------------------------------------------------------------

create or replace function chat_private.item_of(block jsonb, kind text)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type text := block ->> 'type';
  -- Set on blocks that came from a V1 key which shares its block type with another key.
  v_marker text := coalesce(block -> 'extras' ->> 'v1', '');
  v_call jsonb;
begin
  if v_type = 'tool_call' and (kind = 'function_call' and v_marker = 'function_call'
    or kind = 'tool_calls' and v_marker <> 'function_call')
    and jsonb_typeof(block -> 'tool_call_id') = 'string'
      and jsonb_typeof(block -> 'name') = 'string' then
    v_call := jsonb_build_object('name', block -> 'name', 'arguments', case
      when jsonb_typeof(block -> 'arguments_raw') = 'string' then block ->> 'arguments_raw'
      when coalesce(jsonb_typeof(block -> 'input'), 'null') = 'null' then '{}'
      else chat_private.canonical(block -> 'input') end);
    return case kind when 'function_call' then v_call
      else jsonb_build_object('id', block -> 'tool_call_id', 'type', 'function',
        'function', v_call) end;
  elsif v_type in ('image', 'audio', 'file')
    and (kind = 'images' and v_type = 'image' and v_marker = 'images'
      or kind = 'attachments' and not (v_type = 'image' and v_marker = 'images'))
    and block -> 'source' ->> 'kind' = 'url'
      and jsonb_typeof(block -> 'source' -> 'url') = 'string' then
    return case kind when 'images' then block -> 'source' -> 'url'
      else jsonb_strip_nulls(jsonb_build_object(
      'url', block -> 'source' -> 'url',
      'content_type',
      case when jsonb_typeof(block -> 'media_type') = 'string' then block -> 'media_type' end,
      'name', case when v_type <> 'image'
        and jsonb_typeof(block -> 'filename') = 'string' then block -> 'filename' end,
      'size', case when v_type <> 'image'
        and chat_private.is_count(block -> 'size') then block -> 'size' end)) end;
  end if;
  return null;
end $$;

comment on function chat_private.item_of is
  'The element of metadata.<kind> that shows a block (tool_calls, function_call, images, attachments); null when none does.';

create or replace function chat_private.block_of(
  item jsonb, kind text, old_block jsonb, message uuid
)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_call jsonb := case kind when 'tool_calls' then item -> 'function' when 'function_call'
    then item end;
  v_raw text := v_call ->> 'arguments';
  v_input jsonb := chat_private.parse_object(v_raw);
  v_type text;
begin
  if v_call is not null then
    return coalesce(old_block - array['input', 'arguments_raw'],
        jsonb_build_object('type', 'tool_call', 'state', 'complete')
        || case kind when 'tool_calls' then jsonb_build_object('tool_call_id', item -> 'id')
          -- V1 gave this call no id, V2 needs one: the same for the same message, every time.
          else jsonb_build_object('tool_call_id', 'call_' || message, 'extras',
            '{"v1": "function_call"}'::jsonb) end)
      || jsonb_build_object('name', v_call -> 'name', 'input', v_input)
      -- Long numbers: JavaScript would not write them back as they were, so the text stays the
      -- truth everywhere.
      || case when v_input is null or v_raw <> chat_private.canonical(v_input)
        or v_raw ~ '[0-9][0-9.]{15}'
        then jsonb_build_object('arguments_raw', v_raw) else '{}' end;
  elsif kind = 'images' then
    return jsonb_build_object('type', 'image', 'extras', '{"v1": "images"}'::jsonb,
      'source', jsonb_build_object('kind', 'url', 'url', item));
  end if;
  v_type := case
    when item ->> 'content_type' like 'image/%' and not item ?| array['name', 'size'] then 'image'
    when item ->> 'content_type' like 'audio/%' then 'audio'
    else 'file' end;
  return coalesce(
      case when old_block ->> 'type' = v_type
        then old_block - array['media_type', 'filename', 'size'] end,
      jsonb_build_object('type', v_type,
        'source', jsonb_build_object('kind', 'url', 'url', item -> 'url')))
    || jsonb_strip_nulls(jsonb_build_object(
      'media_type', item -> 'content_type', 'filename', item -> 'name', 'size', item -> 'size'));
end $$;

comment on function chat_private.block_of is
  'The block for an element of metadata.<kind>; what the element does not show is taken from old_block.';

create or replace function chat_private.put_items(
  content jsonb, kind text, items jsonb, message uuid
)
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_slots jsonb[];
  v_used boolean[];
  v_blocks jsonb[] := array_fill(null::jsonb, array[jsonb_array_length(items)]);
  v_item jsonb;
  v_slot integer;
begin
  select coalesce(array_agg(e.block order by e.n), '{}') into v_slots
  from jsonb_array_elements(content) with ordinality e(block, n)
  where chat_private.item_of(e.block, kind) is not null;
  if v_slots = '{}' then
    return content || coalesce((
      select jsonb_agg(chat_private.block_of(i.item, kind, null, message) order by i.n)
      from jsonb_array_elements(items) with ordinality i(item, n)), '[]');
  end if;
  v_used := array_fill(false, array[cardinality(v_slots)]);
  -- Equal elements first, so that a changed one cannot take the block of one that only moved.
  for v_pass in 1..3 loop
    for v_place in 1..jsonb_array_length(items) loop
      continue when v_blocks[v_place] is not null;
      v_item := items -> (v_place - 1);
      v_slot := case v_pass when 3 then null else (
        select min(s.n) from unnest(v_slots) with ordinality s(block, n)
        cross join lateral (select chat_private.item_of(s.block, kind) as item) i
        where not v_used[s.n] and case v_pass
          when 1 then i.item = v_item
          else kind = 'function_call' or i.item -> 'id' = v_item -> 'id'
            or i.item -> 'url' = v_item -> 'url' end) end;
      continue when v_slot is null and v_pass < 3;
      v_blocks[v_place] := case when v_pass = 1 then v_slots[v_slot]
        else chat_private.block_of(v_item, kind, v_slots[v_slot], message) end;
      if v_slot is not null then
        v_used[v_slot] := true;
      end if;
    end loop;
  end loop;
  return (
    select coalesce(jsonb_agg(r.block order by r.n, r.place), '[]')
    from (
      -- Old places are filled in order; more blocks than places follow the last place, fewer leave
      -- places out.
      select e.n, 0 as place,
        case when e.slot is null then e.block else v_blocks[e.slot] end as block
      from (
        select e.block, e.n, case when chat_private.item_of(e.block, kind) is not null then
          count(*) filter (where chat_private.item_of(e.block, kind) is not null) over (
            order by e.n) end as slot
        from jsonb_array_elements(content) with ordinality e(block, n)
      ) e
      union all
      select (
        select max(e.n) from jsonb_array_elements(content) with ordinality e(block, n)
        where chat_private.item_of(e.block, kind) is not null), b.n, b.block
      from unnest(v_blocks) with ordinality b(block, n) where b.n > cardinality(v_slots)
    ) r
    where r.block is not null);
end $$;

comment on function chat_private.put_items is
  'Blocks whose metadata.<kind> is items: unchanged elements keep their block, changed ones (same id or url) what V1 cannot show.';

-- Rows --------------------------------------------------------------------------------------------

create or replace function chat_private.v1_role(role text)
returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case role when 'tool' then 'assistant' when 'developer' then 'system' else role end
$$;

comment on function chat_private.v1_role is 'The V1 role that shows a V2 role.';

create or replace function chat_private.plain_metadata(
  metadata jsonb, model text, usage jsonb, finish_reason text
)
returns jsonb
-- Not sql: called for every row, and PL/pgSQL keeps its plan.
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What V2 has a column for hides a free key of the same name, and that hides a legacy one.
  return case when model is null and usage is null and finish_reason is null then
      case jsonb_typeof(metadata -> 'legacy')
        when 'object' then (metadata -> 'legacy') || (metadata - 'legacy') else metadata end
    else
      case jsonb_typeof(metadata -> 'legacy')
        when 'object' then (metadata -> 'legacy') || (metadata - 'legacy') else metadata end
      || jsonb_strip_nulls(jsonb_build_object(
        'model', model, 'finish_reason', finish_reason, 'tokens', chat_private.tokens_of(usage)))
    end;
end $$;

comment on function chat_private.plain_metadata is 'The V1 metadata that shows these columns of a V2 row.';

create or replace function chat_private.to_v1(message public.chat_messages_v2)
returns public.chat_messages
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row public.chat_messages;
  v_block jsonb;
  v_result jsonb;
  v_content text[];
  v_reasoning text[];
  v_calls jsonb[];
  v_function_call jsonb;
  v_images jsonb[];
  v_attachments jsonb[];
begin
  for v_block in select e.value from jsonb_array_elements(message.content) e loop
    case v_block ->> 'type'
      when 'text', 'refusal', 'tool_result' then
        v_content := array_append(v_content,
          chat_private.text_of(v_block, 'content', message.role));
        if v_result is null and message.role = 'tool' and v_block ->> 'type' = 'tool_result' then
          v_result := v_block;
        end if;
      when 'reasoning' then
        v_reasoning := array_append(v_reasoning,
          chat_private.text_of(v_block, 'reasoning', message.role));
      when 'tool_call' then
        v_calls := array_append(v_calls, chat_private.item_of(v_block, 'tool_calls'));
        v_function_call := coalesce(v_function_call,
          chat_private.item_of(v_block, 'function_call'));
      when 'image', 'audio', 'file' then
        v_images := array_append(v_images, chat_private.item_of(v_block, 'images'));
        v_attachments := array_append(v_attachments, chat_private.item_of(v_block, 'attachments'));
      else null;
    end case;
  end loop;
  v_row.id := message.id;
  v_row.chat_id := message.chat_id;
  v_row.user_id := message.user_id;
  v_row.role := chat_private.v1_role(message.role);
  v_row.content := coalesce(array_to_string(v_content, E'\n\n'), '');
  v_row.metadata := chat_private.plain_metadata(message.metadata, message.model, message.usage,
    message.finish_reason)
    || jsonb_strip_nulls(jsonb_build_object(
      'parent_id', message.parent_id,
      'error', case when jsonb_typeof(message.error -> 'message') = 'string'
        then message.error -> 'message' end,
      'edited', case when message.edited_at is not null then true end,
      'reasoning', array_to_string(nullif(array_remove(v_reasoning, null), '{}'), E'\n\n'),
      'function_call', v_function_call,
      'tool_calls', to_jsonb(nullif(array_remove(v_calls, null), '{}')),
      'images', to_jsonb(nullif(array_remove(v_images, null), '{}')),
      'attachments', to_jsonb(nullif(array_remove(v_attachments, null), '{}')),
      'tool_call_id', case when jsonb_typeof(v_result -> 'tool_call_id') = 'string'
        then v_result -> 'tool_call_id' end,
      'name', case when jsonb_typeof(v_result -> 'name') = 'string' then v_result -> 'name' end));
  v_row.created_at := message.created_at;
  v_row.updated_at := message.updated_at;
  v_row.sequence_number := case when message.seq between -2147483648 and 2147483647
    then message.seq end;
  return v_row;
end $$;

comment on function chat_private.to_v1 is
  'The V1 row that shows a V2 row: the whole rule, of which chat_messages_to_v1 takes short cuts.';

create or replace function chat_private.put_key(
  message public.chat_messages_v2, key text, value jsonb, v1 public.chat_messages
)
returns public.chat_messages_v2
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Null for an absent key and for a value that V2 has no place for: the place is cleared.
  v_known jsonb := case when chat_private.is_recognised(key, value) then value end;
  v_text text := v_known #>> '{}';
  v_result text;
  v_free jsonb;
  v_legacy jsonb;
begin
  if key in ('tool_call_id', 'name') then
    v_result := chat_private.tool_result_place(message.content, message.role);
  end if;
  case
    when key = 'model' then message.model := v_text;
    when key = 'finish_reason' then message.finish_reason := v_text;
    when key = 'parent_id' then message.parent_id := v_text::uuid;
    when key = 'edited' then
      message.edited_at := case when v_known is not null
        then coalesce(v1.updated_at, v1.created_at) end;
    when key = 'tokens' then
      -- A count that V1 never showed is not what its client took away.
      message.usage := nullif(
        coalesce(message.usage, '{}') - array(
          select k from unnest(array['input_tokens', 'output_tokens', 'total_tokens']) k
          where chat_private.is_count(message.usage -> k))
        || coalesce(chat_private.usage_of(v_known), '{}'), '{}');
    when key = 'error' then
      message.status := case when v_known is not null then 'error'
        when message.status = 'error' then 'complete' else message.status end;
      message.error := case
        when v_known is not null then '{"code": "unknown"}'::jsonb || coalesce(message.error, '{}')
          || jsonb_build_object('message', v_known)
        when jsonb_typeof(message.error -> 'message') is distinct from 'string'
          then message.error end;
    when key = 'reasoning' then
      message.content := chat_private.put_text(message.content, key, message.role, v_text);
    when key in ('tool_calls', 'images', 'attachments') then
      message.content := chat_private.put_items(message.content, key, coalesce(v_known, '[]'),
        v1.id);
    when key = 'function_call' then
      message.content := chat_private.put_items(message.content, key,
        case when v_known is null then '[]' else jsonb_build_array(v_known) end, v1.id);
    when key in ('tool_call_id', 'name') and v_result is not null then
      message.content := case when v_known is null then message.content #- array[v_result, key]
        else jsonb_set(message.content, array[v_result, key], v_known) end;
    else
      v_known := null;
  end case;
  if v_known is not null and message.metadata = '{}' then
    return message;
  end if;
  v_free := message.metadata - 'legacy';
  v_legacy := message.metadata -> 'legacy';
  if jsonb_typeof(v_legacy) <> 'object' then
    -- The V2 row has a key of its own named legacy: from here on it is one of the kept keys.
    v_legacy := jsonb_build_object('legacy', v_legacy);
  end if;
  v_legacy := v_legacy - key;
  if v_known is not null or value is null then
    v_free := v_free - key;
  elsif v_free ? key or key = 'rating' then
    v_free := jsonb_set(v_free, array[key], value);
  else
    v_legacy := coalesce(v_legacy, '{}') || jsonb_build_object(key, value);
  end if;
  message.metadata := v_free
    -- An empty one is V2's own, too.
    || case when v_legacy <> '{}' or message.metadata -> 'legacy' = '{}'
      then jsonb_build_object('legacy', v_legacy) else '{}' end;
  return message;
end $$;

comment on function chat_private.put_key is
  'The V2 row with one V1 metadata key put in its place; value null for a key that V1 does not have.';

create or replace function chat_private.to_v2(
  new_v1 public.chat_messages, old_v2 public.chat_messages_v2
)
returns public.chat_messages_v2
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row public.chat_messages_v2 := old_v2;
  v_shown public.chat_messages;
  v_key text;
begin
  if old_v2.id is null then
    v_row.status := 'complete';
    v_row.metadata := '{}';
    v_row.role := new_v1.role;
    v_row.content := '[]';
    v_row.seq := new_v1.sequence_number;
    v_shown.metadata := '{}';
    if new_v1.role = 'assistant' and jsonb_typeof(new_v1.metadata -> 'tool_call_id') = 'string' then
      v_row.role := 'tool';
      v_row.content := jsonb_build_array(jsonb_build_object('type', 'tool_result',
        'tool_call_id', new_v1.metadata -> 'tool_call_id', 'output', new_v1.content,
          'is_error', false));
      v_shown.metadata := jsonb_build_object('tool_call_id', new_v1.metadata -> 'tool_call_id');
    elsif new_v1.content <> '' then
      v_row.content := jsonb_build_array(
        jsonb_build_object('type', 'text', 'text', new_v1.content));
    end if;
  else
    -- The role comes first: what a tool result shows depends on it.
    if chat_private.v1_role(v_row.role) <> new_v1.role then
      v_row.role := new_v1.role;
    end if;
    v_shown := chat_private.to_v1(v_row);
    if v_shown.sequence_number is distinct from new_v1.sequence_number then
      v_row.seq := new_v1.sequence_number;
    end if;
    if v_shown.content <> new_v1.content then
      v_row.content := chat_private.put_text(v_row.content,
        'content', v_row.role, nullif(new_v1.content, ''));
    end if;
  end if;
  v_row.id := new_v1.id;
  v_row.chat_id := new_v1.chat_id;
  v_row.user_id := new_v1.user_id;
  v_row.created_at := new_v1.created_at;
  v_row.updated_at := new_v1.updated_at;
  v_row.schema_version := 2;
  if v_shown.metadata <> new_v1.metadata then
    for v_key in
      select k.key
      from jsonb_object_keys(new_v1.metadata || v_shown.metadata) k(key)
      where new_v1.metadata -> k.key is distinct from v_shown.metadata -> k.key
      order by array_position(array['images', 'attachments', 'function_call', 'tool_calls'],
        k.key) nulls first,
        k.key collate "C"
    loop
      v_row := chat_private.put_key(v_row, v_key, new_v1.metadata -> v_key, new_v1);
    end loop;
  end if;
  return v_row;
end $$;

comment on function chat_private.to_v2 is
  'The stored V2 row (or null) with a V1 row put into it: the whole rule, of which chat_messages_to_v2 takes short cuts.';

-- Converters --------------------------------------------------------------------------------------

-- SQL with no setting but the search_path: the engine puts their text into its statements,
-- which then convert many rows in one plan and one row without a call. The first branch is the
-- plain message, written out (one text block or none, metadata that V2 keeps as it is); the second
-- is every other one. OFFSET 0 keeps PostgreSQL from computing a value once for each use.

create or replace function public.chat_messages_to_v2(
  new_v1 public.chat_messages, old_v2 public.chat_messages_v2
)
returns setof public.chat_messages_v2
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select x.*
  from (
    select
      case
        when old_v2.id is null then not new_v1.metadata ?| array['function_call', 'tool_calls',
          'tool_call_id', 'attachments', 'images', 'reasoning', 'parent_id', 'rating', 'error',
          'edited']
        when old_v2.error is not null or old_v2.parent_id is not null
          or old_v2.edited_at is not null then false
        when new_v1.metadata <> chat_private.plain_metadata(
          old_v2.metadata, old_v2.model, old_v2.usage, old_v2.finish_reason) then false
        else old_v2.content = '[]' or old_v2.content = jsonb_build_array(
          jsonb_build_object('type', 'text', 'text', old_v2.content -> 0 ->> 'text'))
      end as is_plain,
      case when old_v2.id is not null then old_v2.usage
        else chat_private.usage_of(new_v1.metadata -> 'tokens') end as usage
    offset 0
  ) p
  cross join lateral (
    select case when old_v2.id is not null or new_v1.metadata = '{}' then '{}'
      -- Null elements of the list are passed over.
      else new_v1.metadata - array[
        case when jsonb_typeof(new_v1.metadata -> 'model') = 'string' then 'model' end,
        case when jsonb_typeof(new_v1.metadata -> 'finish_reason') = 'string'
          then 'finish_reason' end,
        case when p.usage is not null then 'tokens' end] end as kept
    offset 0
  ) k
  cross join lateral (
    select
      new_v1.id, new_v1.chat_id, new_v1.user_id,
      case when old_v2.id is not null and new_v1.sequence_number is not distinct from
          case when old_v2.seq between -2147483648 and 2147483647 then old_v2.seq end
        then old_v2.seq else new_v1.sequence_number end,
      null::uuid,
      case when old_v2.role = 'tool' and new_v1.role = 'assistant' or old_v2.role = 'developer'
        and new_v1.role = 'system'
        then old_v2.role else new_v1.role end,
      coalesce(old_v2.status, 'complete'),
      case
        when old_v2.id is not null and coalesce(old_v2.content -> 0 ->> 'text', '')
          = new_v1.content then old_v2.content
        when new_v1.content = '' then '[]'
        else jsonb_build_array(jsonb_build_object('type', 'text', 'text', new_v1.content))
      end,
      case when old_v2.id is not null then old_v2.metadata when k.kept = '{}' then '{}'
        else jsonb_build_object('legacy', k.kept) end,
      case when old_v2.id is not null then old_v2.model
        when jsonb_typeof(new_v1.metadata -> 'model') = 'string'
          then new_v1.metadata ->> 'model' end,
      p.usage,
      case when old_v2.id is not null then old_v2.finish_reason
        when jsonb_typeof(new_v1.metadata -> 'finish_reason') = 'string'
          then new_v1.metadata ->> 'finish_reason' end,
      null::jsonb, 2::smallint, new_v1.created_at, new_v1.updated_at, null::timestamptz,
      old_v2.deleted_at
    where p.is_plain
    union all
    select r.* from chat_private.to_v2(new_v1, old_v2) r where p.is_plain is not true
  ) x
$$;

comment on function public.chat_messages_to_v2 is
  'The V2 row for a V1 row; old_v2 is the stored V2 row or null, and what V1 cannot show is taken from it. Never raises.';

create or replace function public.chat_messages_to_v1(
  new_v2 public.chat_messages_v2, old_v1 public.chat_messages
)
returns setof public.chat_messages
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select x.*
  from (
    select case
      when new_v2.error is not null or new_v2.parent_id is not null or new_v2.edited_at is not null
        then false
      else new_v2.content = '[]' or new_v2.content = jsonb_build_array(
        jsonb_build_object('type', 'text', 'text', new_v2.content -> 0 ->> 'text'))
    end as is_plain
    offset 0
  ) p
  cross join lateral (
    select
      new_v2.id, new_v2.chat_id, new_v2.user_id,
      case new_v2.role when 'tool' then 'assistant' when 'developer' then 'system'
        else new_v2.role end,
      coalesce(new_v2.content -> 0 ->> 'text', ''),
      chat_private.plain_metadata(new_v2.metadata, new_v2.model, new_v2.usage,
        new_v2.finish_reason),
      new_v2.created_at, new_v2.updated_at,
      case when new_v2.seq between -2147483648 and 2147483647 then new_v2.seq::integer end
    where p.is_plain
    union all
    select r.* from chat_private.to_v1(new_v2) r where p.is_plain is not true
  ) x
$$;

comment on function public.chat_messages_to_v1 is
  'The V1 row that shows a V2 row. old_v1 is not needed: V2 holds all that V1 holds. Never raises.';

-- A message that V2 lacks -------------------------------------------------------------------------

create or replace function public.copy_chat_message(id uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old public.chat_messages;
begin
  -- Locked: what is copied is neither changed nor deleted meanwhile.
  select m.* into v_old from public.chat_messages m where m.id = copy_chat_message.id for share;
  if found then
    insert into public.chat_messages_v2
    select c.* from public.chat_messages_to_v2(v_old, null) c
    on conflict do nothing;
  end if;
end $$;

comment on function public.copy_chat_message is
  'Make the V2 row of a V1 row that has none; locks the V1 row. One that is gone, or has its V2 row, is left alone. For service_role: the chat function calls it for messages that their reader could see.';

-- Rights: the tables are the API. Converters run in the mirror, as its owner, and in the batches of
-- service_role.

alter table public.chats enable row level security;
alter table public.chat_messages enable row level security;
alter table public.chat_messages_v2 enable row level security;

do $$
declare
  v_own text := 'user_id = (select auth.uid())';
  -- Not in somebody else's chat either: a foreign key alone would let the row in, and tell that the
  -- chat is there.
  v_chat text :=
    'chat_id in (select c.id from public.chats c where c.user_id = (select auth.uid()))';
  v_table text;
begin
  foreach v_table in array array['chats', 'chat_messages', 'chat_messages_v2'] loop
    execute format('drop policy if exists "Users see and write their own rows" on public.%I',
      v_table);
    execute format(
      'create policy "Users see and write their own rows" on public.%I to authenticated '
      'using (%2$s) with check (%2$s%3$s)', v_table, v_own,
      case v_table when 'chats' then '' else ' and ' || v_chat end);
  end loop;
end $$;

revoke all on public.chats, public.chat_messages, public.chat_messages_v2 from anon, authenticated,
  service_role;
grant select, insert, update, delete on public.chats, public.chat_messages, public.chat_messages_v2
  to authenticated, service_role;
revoke all on sequence public.chat_messages_seq from anon;
grant usage on sequence public.chat_messages_seq to authenticated, service_role;
revoke all on schema chat_private from public;
grant usage on schema chat_private to service_role;
revoke execute on all functions in schema chat_private from public, anon, authenticated;
grant execute on all functions in schema chat_private to service_role;
revoke execute on function public.chat_messages_to_v2, public.chat_messages_to_v1,
  public.copy_chat_message from public, anon, authenticated;
grant execute on function public.chat_messages_to_v2, public.chat_messages_to_v1,
  public.copy_chat_message to service_role;

select crossfade.register_pair('chat_messages', 'public.chat_messages', 'public.chat_messages_v2',
  'public.chat_messages_to_v2', 'public.chat_messages_to_v1',
  options => '{"gate_flag": "use_advanced_messages"}');

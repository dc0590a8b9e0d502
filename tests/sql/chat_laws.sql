-- The laws of a conversion, on the rows of a JSON array of {n, v1, v2, edit}: one row for each
-- violation. edit is what a V1 client does to the V1 form of v2: {columns, set, remove (metadata
-- keys), insert (a paragraph)}.
with input as materialized (
  select i.n, jsonb_populate_record(null::public.chat_messages, i.v1) as a,
    jsonb_populate_record(null::public.chat_messages_v2, i.v2) as b, i.edit
  from jsonb_to_recordset(%(rows)s::jsonb) i(n integer, v1 jsonb, v2 jsonb, edit jsonb)
),
shown as materialized (
  select i.n, i.a, i.b, i.edit, up, down
  from input i
  cross join lateral public.chat_messages_to_v2(i.a, null) up
  cross join lateral public.chat_messages_to_v1(i.b, null) down
),
edited as materialized (
  select s.*, jsonb_populate_record(s.down, (s.edit -> 'columns') || jsonb_build_object('metadata',
    (s.down).metadata || (s.edit -> 'set')
      - array(select jsonb_array_elements_text(s.edit -> 'remove')))) as changed
  from shown s
),
inserted as materialized (
  select e.*, case when e.edit ->> 'insert' is null then e.changed
    else jsonb_populate_record(e.changed, jsonb_build_object('content', replace((e.changed).content,
      E'\n\n', E'\n\n' || (e.edit ->> 'insert') || E'\n\n'))) end as a2
  from edited e
),
put as materialized (
  select e.*, stored, other
  from inserted e
  cross join lateral public.chat_messages_to_v2(e.a2, e.b) stored
  cross join lateral public.chat_messages_to_v2(e.a, e.b) other
)
select p.n, l.law, l.got, l.wanted
from put p
cross join lateral (
  select 'L1 up and down', to_jsonb(r), to_jsonb(p.a) from public.chat_messages_to_v1(p.up, null) r
  union all
  select 'L2 down and up', to_jsonb(r), to_jsonb(p.b) from public.chat_messages_to_v2(p.down, p.b) r
  union all
  select 'L3 an edit wins', to_jsonb(r), to_jsonb(p.a2)
  from public.chat_messages_to_v1(p.stored, p.a) r
  union all
  select 'L3 any row wins', to_jsonb(r), to_jsonb(p.a)
  from public.chat_messages_to_v1(p.other, p.a) r
  union all
  select 'L4 twice is once', to_jsonb(r), to_jsonb(p.stored)
  from public.chat_messages_to_v2(p.a2, p.stored) r
  union all
  select 'L5 columns survive',
    to_jsonb(p.stored) - array['content', 'metadata', 'role', 'seq'] - d.touched,
    to_jsonb(p.b) - array['content', 'metadata', 'role', 'seq'] - d.touched
  from (select array(
    select t.of
    from (values ('model', '{model}'::text[]), ('tokens', '{usage}'), ('error', '{error,status}'),
      ('finish_reason', '{finish_reason}'), ('edited', '{edited_at}'),
      ('parent_id', '{parent_id}')) v(key, names)
    cross join lateral unnest(v.names) t(of)
    where (p.a2).metadata -> v.key is distinct from (p.down).metadata -> v.key)) d(touched)
  union all
  select 'L5 blocks survive', (
      select jsonb_agg(e.value order by e.ordinality)
      from jsonb_array_elements((p.stored).content) with ordinality e
      where coalesce(e.value ->> 'type', '') <> all (d.touched)),
    (
      select jsonb_agg(e.value order by e.ordinality)
      from jsonb_array_elements((p.b).content) with ordinality e
      where coalesce(e.value ->> 'type', '') <> all (d.touched))
  from (select array(
    select t.of
    from (values ('content', '{text,refusal,tool_result}'::text[]),
      ('role', '{text,refusal,tool_result}'), ('reasoning', '{reasoning}'),
      ('tool_calls', '{tool_call}'), ('function_call', '{tool_call}'), ('images', '{image}'),
      ('attachments', '{image,audio,file}'), ('tool_call_id', '{tool_result}'),
      ('name', '{tool_result}')) v(key, names)
    cross join lateral unnest(v.names) t(of)
    where coalesce((p.a2).metadata -> v.key, to_jsonb(p.a2) -> v.key)
      is distinct from coalesce((p.down).metadata -> v.key, to_jsonb(p.down) -> v.key)
      or v.key = 'content' and (p.a2).content <> (p.down).content
      or v.key = 'role' and (p.a2).role <> (p.down).role)) d(touched)
  union all
  select 'short cut up', to_jsonb(p.stored), to_jsonb(r) from chat_private.to_v2(p.a2, p.b) r
  union all
  select 'short cut up without a base', to_jsonb(p.up), to_jsonb(r)
  from chat_private.to_v2(p.a, null) r
  union all
  select 'short cut down', to_jsonb(p.down), to_jsonb(r) from chat_private.to_v1(p.b) r
) l(law, got, wanted)
where l.got is distinct from l.wanted
order by p.n

-- Acknowledged writes (and rows of the history) whose effect is not in both tables.

with v2_text as (
  select
    m.id,
    m.content,
    coalesce((
      select string_agg(b.block ->> 'text', e'\n\n' order by b.place)
      from jsonb_array_elements(m.content) with ordinality as b (block, place)
      where b.block ->> 'type' = 'text'
    ), '') as plain
  from public.chat_messages_v2 as m
),

found as (
  select
    e.id,
    case
      when not e.present and v1.id is not null then 'deleted, still in chat_messages'
      when not e.present and v2.id is not null then 'deleted, still in chat_messages_v2'
      when not e.present then null
      when v1.id is null then 'missing in chat_messages'
      when v2.id is null then 'missing in chat_messages_v2'
      when v1.content <> e.plain then 'not the acknowledged content in chat_messages'
      when v2.plain <> e.plain then 'not the acknowledged content in chat_messages_v2'
      when e.blocks is not null and (
        jsonb_array_length(v2.content) <> jsonb_array_length(e.blocks)
        or exists (
          select from jsonb_array_elements(e.blocks) with ordinality as b (block, place)
          where not v2.content -> (b.place - 1)::integer @> b.block
        )
      ) then 'not the acknowledged blocks in chat_messages_v2'
    end as problem
  from expected as e
  left join public.chat_messages as v1 on v1.id = e.id
  left join v2_text as v2 on v2.id = e.id

  union all

  select
    j.id,
    'missing in chats' as problem
  from journal as j
  where
    j.op = 'chat' and j.ok
    and not exists (select from public.chats as c where c.id = j.id)
)

select
  f.problem,
  count(*) as number,
  (array_agg(f.id order by f.id))[1:5] as sample
from found as f
where f.problem is not null
group by f.problem
order by f.problem;

-- Rows of the history nobody touched: every column must be as the data set has it, in both tables.

with found as (
  select
    h.id,
    case
      when
        (v1.chat_id, v1.user_id, v1.role, v1.content, v1.created_at, v1.sequence_number)
        is distinct from
        (h.chat_id, h.user_id, h.role, h.content, h.created_at, h.sequence_number)
        or v1.metadata <> '{}'
        then 'changed in chat_messages'
      when
        (v2.chat_id, v2.user_id, v2.role, v2.created_at, v2.seq)
        is distinct from
        (h.chat_id, h.user_id, h.role, h.created_at, h.sequence_number::bigint)
        then 'changed in chat_messages_v2'
    end as problem
  from history as h
  join expected as e on e.id = h.id and e.untouched
  join public.chat_messages as v1 on v1.id = h.id
  join public.chat_messages_v2 as v2 on v2.id = h.id
)

select
  f.problem,
  count(*) as number,
  (array_agg(f.id order by f.id))[1:5] as sample
from found as f
where f.problem is not null
group by f.problem
order by f.problem;

-- Every row of both tables, compared through the pair's converters in both directions. {to_v2} and
-- {to_v1} are the only things taken from crossfade.

with found as (
  select
    coalesce(v1.id, v2.id) as id,
    case
      when v1.id is null then 'only in chat_messages_v2'
      when v2.id is null then 'only in chat_messages'
      when (select row(c.*) from {to_v2}(v1, v2) as c) is distinct from row(v2.*)
        then 'chat_messages_v2 is not the conversion of chat_messages'
      when (select row(c.*) from {to_v1}(v2, v1) as c) is distinct from row(v1.*)
        then 'chat_messages is not the conversion of chat_messages_v2'
    end as problem
  from public.chat_messages as v1
  full join public.chat_messages_v2 as v2 on v2.id = v1.id
)

select
  f.problem,
  count(*) as number,
  (array_agg(f.id order by f.id))[1:5] as sample
from found as f
where f.problem is not null
group by f.problem
order by f.problem;

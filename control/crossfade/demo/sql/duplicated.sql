-- Rows that nobody was told about, and texts that are there twice.

with rows_of_both as (
  select v1.id, v1.chat_id, 'chat_messages' as place from public.chat_messages as v1
  union all
  select v2.id, v2.chat_id, 'chat_messages_v2' as place from public.chat_messages_v2 as v2
),

unexplained as (
  select
    r.id,
    r.chat_id,
    r.place,
    row_number() over (partition by r.place, r.chat_id order by r.id) as number_in_chat
  from rows_of_both as r
  where
    not exists (select from expected as e where e.id = r.id)
    and not exists (select from doubtful as d where d.id = r.id)
),

-- A create whose answer was lost, and whose id the server would have chosen, explains one row.
allowed as (
  select j.chat_id, count(*) as number
  from journal as j
  where not j.ok and j.id = j.chat_id
  group by j.chat_id
),

found as (
  select u.id, 'nobody was told of it, in ' || u.place as problem
  from unexplained as u
  left join allowed as a on a.chat_id = u.chat_id
  where u.number_in_chat > coalesce(a.number, 0)

  union all

  -- Every text a client writes carries a mark of its own; replies quote it, hence the role.
  select min(m.id::text)::uuid, 'the same message under two ids' as problem
  from public.chat_messages as m
  join journal as j on j.id = m.id and j.ok and j.op = 'create'
  where m.role = 'user'
  group by m.content
  having count(distinct m.id) > 1
)

select
  f.problem,
  count(*) as number,
  (array_agg(f.id order by f.id))[1:5] as sample
from found as f
group by f.problem
order by f.problem;

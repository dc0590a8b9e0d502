-- What must be in both tables, from the data set and the journal alone: both were copied into the
-- temporary tables history and journal, and no table of the project is read here.

-- A write whose answer was lost may have happened or not. Its message is left out: either state is
-- right for it, as long as the two tables agree (mismatches.sql looks at every row).
create temporary table doubtful as
select distinct j.id from journal as j where not j.ok;

create temporary table expected as
with last_write as (
  select distinct on (j.id)
    j.id, j.chat_id, j.op, j.plain, j.blocks
  from journal as j
  where j.ok and j.op <> 'chat'
  order by j.id, j.n desc
)

select
  coalesce(w.id, h.id) as id,
  coalesce(w.chat_id, h.chat_id) as chat_id,
  coalesce(w.op <> 'delete', true) as present,
  coalesce(w.plain, h.content) as plain,
  w.blocks,
  w.id is null as untouched
from last_write as w
full join history as h on h.id = w.id
where coalesce(w.id, h.id) not in (select d.id from doubtful as d);

create unique index on expected (id);
analyze expected;

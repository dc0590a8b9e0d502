"""The two pairs of tables that the soak writes: one key column, and two renamed ones."""

from __future__ import annotations

from dataclasses import dataclass

from .rows import Key

_SPACE = 1_000_000  # one key column holds space * _SPACE + number


@dataclass(frozen=True)
class Shape:
    """Key columns of both tables; everything else is the same in every shape."""

    name: str
    keys_v1: tuple[str, ...]
    keys_v2: tuple[str, ...]

    def table(self, side: int) -> str:
        return f"public.box_v{side}"

    def keys(self, side: int) -> tuple[str, ...]:
        return self.keys_v1 if side == 1 else self.keys_v2

    def parts(self, key: Key) -> tuple[int, ...]:
        """Return the values of the key columns."""
        return key if len(self.keys_v1) == 2 else (key[0] * _SPACE + key[1],)

    def key(self, parts: tuple[int, ...]) -> Key:
        """Return the key of the given key columns."""
        return (parts[0], parts[1]) if len(parts) == 2 else divmod(parts[0], _SPACE)

    def json_key(self, found: dict[str, int]) -> Key:
        """Return the key that the engine wrote down with the names of V1."""
        return self.key(tuple(int(found[name]) for name in self.keys_v1))


ONE = Shape("one", ("id",), ("id",))
TWO = Shape("two", ("space", "id"), ("room", "item"))
SHAPES = (ONE, TWO)

COLUMNS = {
    1: ("owner_id", "token", "body", "cents"),
    2: ("owner_id", "token", "parts", "amount", "pinned", "note"),
}

_TABLES = """
create table public.box_v1 (
  {declare_v1},
  owner_id uuid,
  token text not null,
  body text,
  cents bigint,
  primary key ({keys_v1})
);
create table public.box_v2 (
  {declare_v2},
  owner_id uuid,
  token text not null,
  parts jsonb not null,
  amount numeric(14, 2),
  pinned boolean not null default false,
  note text,
  part_count integer generated always as (jsonb_array_length(parts)) stored,
  primary key ({keys_v2}),
  constraint amount_is_small check (amount < 1000)
);
create function public.box_to_v2(new_v1 public.box_v1, old_v2 public.box_v2)
returns setof public.box_v2 language sql stable as $$
  select {new_v1}, new_v1.owner_id, new_v1.token,
    case
      when old_v2.token is not null and old_v2.parts ->> 0 is not distinct from new_v1.body
        then old_v2.parts
      when new_v1.body is null then '[]'::jsonb
      else jsonb_build_array(new_v1.body)
    end,
    (new_v1.cents / 100.0)::numeric(14, 2), coalesce(old_v2.pinned, false), old_v2.note, 0
$$;
create function public.box_to_v1(new_v2 public.box_v2, old_v1 public.box_v1)
returns setof public.box_v1 language sql stable as $$
  select {new_v2}, new_v2.owner_id, new_v2.token, new_v2.parts ->> 0,
    (new_v2.amount * 100)::bigint
$$;
alter table public.box_v1 enable row level security;
alter table public.box_v2 enable row level security;
create policy "own rows" on public.box_v1 to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "own rows" on public.box_v2 to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
grant select, insert, update, delete on public.box_v1, public.box_v2 to authenticated;
-- Written as the last statement of every transaction: whether it is there is whether it committed.
create schema soak;
create table soak.txns (token text primary key);
grant usage on schema soak to authenticated;
grant insert on soak.txns to authenticated;
"""

# Not the engine's own comparison, and both ways through the converters.
_DISAGREE = """
select {a}, {b}, to_jsonb(a), to_jsonb(b)
from public.box_v1 a
full join public.box_v2 b on ({a}) = ({b})
left join lateral public.box_to_v2(a, b) c on true
left join lateral public.box_to_v1(b, a) d on true
where a.token is null or b.token is null
  or (to_jsonb(b) - 'part_count') is distinct from (to_jsonb(c) - 'part_count')
  or to_jsonb(a) is distinct from to_jsonb(d)
  or (a.token, a.owner_id, a.body, a.cents::numeric)
    is distinct from (b.token, b.owner_id, b.parts ->> 0, b.amount * 100)
limit 50
"""


def create_sql(shape: Shape) -> str:
    """Return the SQL that makes tables, converters, policies and the table of transactions."""
    named = {
        "keys_v1": ", ".join(shape.keys_v1),
        "keys_v2": ", ".join(shape.keys_v2),
        "declare_v1": ", ".join(f"{name} bigint" for name in shape.keys_v1),
        "declare_v2": ", ".join(f"{name} bigint" for name in shape.keys_v2),
        "new_v1": ", ".join(f"new_v1.{name}" for name in shape.keys_v1),
        "new_v2": ", ".join(f"new_v2.{name}" for name in shape.keys_v2),
    }
    text = _TABLES
    for name, value in named.items():
        text = text.replace("{" + name + "}", value)
    return text


def register_sql(shape: Shape, policy: str) -> str:
    """Return the SQL that registers the pair ``box``."""
    keys = ", ".join(f"'{name}'" for name in shape.keys_v1)
    v2_keys = ", ".join(f'"{name}"' for name in shape.keys_v2)
    return (
        "select crossfade.register_pair('box', 'public.box_v1', 'public.box_v2', "
        f"'public.box_to_v2', 'public.box_to_v1', array[{keys}], "
        f"""'{{"failure_policy": "{policy}", "v2_key": [{v2_keys}]}}')"""
    )


def disagree_sql(shape: Shape) -> str:
    """Return the query for rows on which the two tables do not agree."""
    return _DISAGREE.replace("{a}", ", ".join(f"a.{name}" for name in shape.keys_v1)).replace(
        "{b}", ", ".join(f"b.{name}" for name in shape.keys_v2)
    )


def select_list(shape: Shape, side: int, alias: str = "t") -> str:
    """Return key and value columns in the order that read_row expects."""
    names = [f"{alias}.{name}" for name in (*shape.keys(side), *COLUMNS[side])]
    return ", ".join(names).replace(f"{alias}.owner_id", f"{alias}.owner_id::text")

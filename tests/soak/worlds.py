"""Which features a world has, and the SQL that makes it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "world"
TRIGGERS = (
    "touch", "slug", "complete_row", "sibling", "counter", "stamp", "statement", "signup", "hidden",
    "keep",
)  # fmt: skip
TABLES = {1: "public.notes", 2: "public.cards"}
TENANTS = {
    "A": "00000000-0000-4000-8000-00000000000a",
    "B": "00000000-0000-4000-8000-00000000000b",
}

_SETTINGS = """
update crossfade.settings as s set value = w.value::jsonb
from (values
  ('batch_max_rows', '60'), ('batch_min_rows', '5'), ('batch_first_rows', '20'),
  ('shadow_min_reads', '0'), ('stage_bake_s', '0')
) as w (name, value)
where s.name = w.name;
update crossfade.settings set value = to_jsonb(least(100000, maximum))
where name like 'throttle%';
insert into public.folders
select k, (case when k < 3 then '<<a>>' else '<<b>>' end)::uuid, 'folder'
from unnest(array[1, 2, 3, 4]) k;
insert into public.labels select * from public.folders;
"""


@dataclass(frozen=True)
class World:
    """One choice of features.

    Attributes:
        two_keys: the key is (space, id) in V1 and (room, item) in V2.
        identity: how the id of each table is made: ``none``, ``by default`` or ``always``.
        deferrable_key: the primary keys are deferrable, so that rows may swap them.
        parents: which tables refer to folders and labels: ``none``, ``v1``, ``both``.
        clips: a table refers to V2's key.
        triggers: the owner's triggers, files of world/triggers.
        audited: the owner's audit triggers say who wrote; else the clients write it down.
        virtual: V1's generated column is virtual (PostgreSQL 18).
        called: converters are plpgsql, which PostgreSQL cannot inline.
        small: V2 refuses large amounts.
        policy: the pair's failure policy.
        parted: V2 is partitioned, by the first of two key columns, which is a time.
    """

    two_keys: bool = False
    identity: tuple[str, str] = ("none", "none")
    deferrable_key: bool = False
    parents: str = "none"
    clips: bool = False
    triggers: tuple[str, ...] = ()
    audited: bool = False
    virtual: bool = False
    called: bool = False
    small: bool = False
    policy: str = "record"
    parted: bool = False

    def keys(self, side: int) -> tuple[str, ...]:
        """Return the key columns of a table."""
        if side == 1:
            return ("space", "id") if self.two_keys else ("id",)
        return ("room", "item") if self.two_keys else ("card_id",)

    def parts(self, key: int) -> tuple[int, ...]:
        """Return the values of the key columns of row number ``key``."""
        if self.parted:
            return (5 if 40 <= key <= 99 else key % 4 + 1, key)
        return (key % 2 + 1, key) if self.two_keys else (key,)

    def texts(self, key: int, *, typed: bool = True) -> tuple[str, ...]:
        """Return the same as SQL with its types, or as COPY reads them."""
        first, *more = self.parts(key)
        if not self.parted:
            return tuple(f"{part}::bigint" if typed else f"{part}" for part in (first, *more))
        text = f"2026-{first:02}-05 12:00+00"
        return (f"'{text}'::timestamptz", f"{key}::bigint") if typed else (text, f"{key}")

    def part(self, value: object) -> int:
        """Return what ``parts`` calls the value of a key column."""
        text = str(value)
        return int(text) if text.isdecimal() else int(text[5:7])

    def overriding(self, side: int) -> str:
        """Return what an INSERT with a key of its own must say."""
        return "overriding system value" if self.identity[side - 1] == "always" else ""

    def simpler(self) -> Iterator[World]:
        """Return worlds with one feature less, in which the same statements can run."""
        for trigger in self.triggers:
            yield dataclasses.replace(
                self, triggers=tuple(t for t in self.triggers if t != trigger)
            )
        for name in ("parents", "clips", "virtual", "called", "identity"):
            plain = getattr(World(), name)
            if getattr(self, name) != plain:
                yield dataclasses.replace(self, **{name: plain})


def choose(rng: random.Random, version: int) -> World:
    """Return a random world; one in four has no trigger but the engine's."""
    bare = rng.random() < 0.25
    share = rng.choice((0.15, 0.35, 0.6))
    deferrable = rng.random() < 0.04
    identities = ("none", "none", "by default", "always")
    triggers = () if bare else tuple(t for t in TRIGGERS if rng.random() < share)
    return World(
        two_keys=rng.random() < 0.3,
        identity=(rng.choice(identities), rng.choice(identities)),
        deferrable_key=deferrable,
        parents="none" if bare else rng.choice(("none", "v1", "both")),
        clips=not deferrable and rng.random() < 0.4,
        triggers=triggers,
        audited=not bare,
        virtual=version >= 18 and rng.random() < 0.5,
        called=rng.random() < 0.2,
        small=rng.random() < 0.3,
        policy=rng.choice(("record", "record", "raise")),
    )


def create_sql(world: World) -> str:
    """Return the SQL that makes the whole world, up to the rows that are there before the pair."""
    names = ["tables.sql", "audit.sql"]
    names += ["audit_triggers.sql"] if world.audited else []
    names += ["partitions.sql"] if world.parted else []
    names += ["parents.sql"] if world.parents != "none" else []
    names += ["parents_v2.sql"] if world.parents == "both" else []
    names += ["clips.sql"] if world.clips else []
    names += [f"triggers/{name}.sql" for name in world.triggers]
    text = "".join((FOLDER / name).read_text() for name in names) + _SETTINGS
    if world.small:
        text += "alter table public.cards add constraint amount_is_small check (cents < 100000);\n"
    for name, value in _pieces(world).items():
        text = text.replace(f"<<{name}>>", value)
    return text


def register_sql(world: World) -> str:
    """Return the SQL that registers the pair ``notes``."""
    keys = ", ".join(f"'{name}'" for name in world.keys(1))
    options = {"failure_policy": world.policy, "v2_key": list(world.keys(2))}
    return (
        "select crossfade.register_pair('notes', 'public.notes', 'public.cards', "
        f"'public.notes_to_v2', 'public.cards_to_v1', array[{keys}], '{json.dumps(options)}');\n"
    )


def _pieces(world: World) -> dict[str, str]:
    loud = "virtual" if world.virtual else "stored"
    named = {"loud": loud, "deferrable_key": "", "language": "sql", "open": "", "close": ""}
    named |= {"a": TENANTS["A"], "b": TENANTS["B"]}
    if world.deferrable_key:
        named["deferrable_key"] = "deferrable initially immediate"
    if world.called:
        named |= {"language": "plpgsql", "open": "begin\n  return query", "close": ";\nend"}
    types = ("timestamptz" if world.parted else "bigint", "bigint")[-len(world.keys(1)) :]
    named["partitioned"] = "partition by range (room)" if world.parted else ""
    for side in (1, 2):
        keys = world.keys(side)
        named[f"also_v{side}"] = f", {', '.join(keys)}" if world.parted else ""
        named[f"columns_v{side}"] = ",\n  ".join(
            f"{name} {kind}" + (_default(world, side) if name == keys[-1] else "")
            for name, kind in zip(keys, types, strict=True)
        )
        named[f"keys_v{side}"] = ", ".join(keys)
        named[f"new_v{side}"] = ", ".join(f"new_v{side}.{name}" for name in keys)
        named[f"overriding_v{side}"] = world.overriding(side)
    named["old_v1"] = ", ".join(f"old.{name}" for name in world.keys(1))
    named["signup_key"] = _made_key(world, "new.id")
    named["hidden_key"] = _made_key(world, "$1.id + 60")  # beside the sign-up's own
    clip_keys = [f"card_{name}" for name in world.keys(2)]
    named["clip_keys"] = ", ".join(clip_keys)
    named["columns_clips"] = ",\n  ".join(f"{name} bigint" for name in clip_keys)
    return named


def _made_key(world: World, number: str) -> str:
    if world.parted:
        return f"soak.month_of({number}), {number}"
    return f"({number}) % 2 + 1, {number}" if world.two_keys else number


def _default(world: World, side: int) -> str:
    kind = world.identity[side - 1]
    if kind != "none":
        # Apart, so that keys made by the two tables never meet.
        return f" generated {kind} as identity (start with {1000 * side})"
    return ""

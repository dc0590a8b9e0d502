"""The world of two pairs that foreign keys tie together, and what clients write there. Pure."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from .worlds import FOLDER

NAMES = ("threads", "posts", "threads_v2", "posts_v2")
PAIRS = NAMES[:2]
BEYOND = 3_000_000_000  # no integer of V1
_THREADS, _POSTS = range(1, 8), range(1, 25)
_LOOK_UPS = (
    "(select p.uid from public.threads p where p.id = a.thread_id)",
    "(select p.id from public.threads_v2 p where p.legacy_id = a.thread_id)",
    "(select p.legacy_id from public.threads_v2 p where p.id = b.thread_id)",
    "(select p.id from public.threads p where p.uid = b.thread_id)",
)
_PIECES = {
    "group": {
        "carried": "", "kept": "", "key": "bigint", "type": "bigint",
        "keys_v2": "a.id::bigint", "parent_v2": "a.thread_id::bigint",
        "keys_v1": "case when b.id <= 2147483647 then b.id::integer end",
        "parent_v1": "case when b.thread_id <= 2147483647 then b.thread_id::integer end",
        "unless_beyond": "where b.id <= 2147483647",
        "unless_parent_beyond": "where b.thread_id <= 2147483647",
    },
    "carried": {
        "carried": "uid uuid not null unique default gen_random_uuid(),",
        "kept": "legacy_id integer not null unique,",
        "key": "uuid default gen_random_uuid()", "type": "uuid", "keys_v2": "a.uid, a.id",
        "keys_v1": "b.legacy_id, b.id",
        "parent_v2": f"coalesce({_LOOK_UPS[0]}, {_LOOK_UPS[1]})",
        "parent_v1": f"coalesce({_LOOK_UPS[2]}, {_LOOK_UPS[3]})",
        "unless_beyond": "", "unless_parent_beyond": "",
    },
}  # fmt: skip


def create_sql(kind: str) -> str:
    """Return the SQL that makes the world of a kind: ``group`` or ``carried``."""
    text = (FOLDER / "tree.sql").read_text()
    for name, piece in _PIECES[kind].items():
        text = text.replace(f"<<{name}>>", piece)
    return text


def register_sql(kind: str, policy: str) -> str:
    """Return the SQL that registers both pairs, the parent first."""
    key = "uid" if kind == "carried" else "id"
    return ";\n".join(
        f"select crossfade.register_pair('{name}', 'public.{name}', 'public.{name}_v2', "
        f"'public.{name}_to_v2', 'public.{name}_to_v1', array['{own}'], '{options}')"
        for name, own, options in (
            ("threads", key, json.dumps({"failure_policy": policy, "v2_key": ["id"]})),
            ("posts", "id", json.dumps({"failure_policy": policy})),
        )
    )


@dataclass(frozen=True)
class Write:
    """One statement of a client on tables of one side.

    Attributes:
        form: its kind, for people.
    """

    form: str
    side: int
    sql: str


def write(rng: random.Random, kind: str, side: int, tag: str) -> Write:
    """Return a random statement; ``tag`` names it in what it writes."""
    forms = {
        "thread": 4, "post": 6, "both": 2, "edit thread": 4, "edit post": 6, "edit x": 2,
        "upsert": 3, "delete thread": 2, "delete post": 2, "re-hang": 3, "new key": 2,
        "shift": 1, "take over": 2, "edit both": 2, "truncate": 0.2,
    }  # fmt: skip
    form = rng.choices(list(forms), list(forms.values()))[0]
    return Write(form, side, _Text(rng, kind, side, tag).of(form))


class _Text:
    def __init__(self, rng: random.Random, kind: str, side: int, tag: str) -> None:
        self._rng, self._side, self._tag = rng, side, tag
        suffix = "_v2" if side == 2 else ""
        self._threads, self._posts = f"public.threads{suffix}", f"public.posts{suffix}"
        self._number = "legacy_id" if side == 2 and kind == "carried" else "id"
        self._wide = side == 2 and kind == "group"

    def of(self, form: str) -> str:
        rng, tag, log = self._rng, self._tag, f"log{self._side}"
        edit = f"{log} = t.{log} || array['{tag}']"
        if rng.random() < 0.5:
            edit += f", title = '{tag}'"
        one, other = rng.sample(_POSTS, 2)
        posts = f"update {self._posts} as t set"
        threads = f"update {self._threads} as t set"
        where = f"where t.{self._number}"
        number = self._thread()
        if form == "edit x" and self._side == 2:
            return f"{posts} log_x = t.log_x || array['{tag}'] where t.id in ({one}, {other})"
        texts = {
            "thread": self._insert_thread(number),
            "post": self._insert_post(number, one),
            "both": f"with made as ({self._insert_thread(number)} returning id) "
            f"insert into {self._posts} (id, thread_id, birth, {log}) "
            f"select {one}, made.id, '{tag}/p', array['{tag}'] from made",
            "edit thread": f"{threads} {edit} {where} in ({number}, {self._thread()})",
            "edit x": f"{threads} {edit}",
            "edit post": f"{posts} {edit} where t.id in ({one}, {other})",
            "upsert": f"{self._insert_thread(number)} on conflict ({self._number}) do update "
            f"set {edit}",
            "delete thread": f"delete from {self._threads} as t {where} = {number}",
            "delete post": f"delete from {self._posts} as t where t.id in ({one}, {other})",
            "re-hang": f"{posts} {edit}, thread_id = p.id from {self._threads} as p "
            f"where t.id in ({one}, {other}) and p.{self._number} = {number}",
            "new key": f"{threads} {edit}, {self._number} = {self._thread()} {where} = {number}",
            "shift": f"{threads} {self._number} = t.{self._number} + 1 {where} "
            f"between {number} and {number + 1}",
            "take over": f"with gone as (delete from {self._threads} as d "
            f"where d.{self._number} = {number} returning d.{self._number} as n) "
            f"{threads} {edit}, {self._number} = g.n from gone as g "
            f"{where} = {self._thread()}",
            "edit both": f"with edited as ({threads} {edit} {where} = {number} returning t.id) "
            f"{posts} {edit} from edited as e where t.thread_id = e.id",
            "truncate": f"truncate {self._posts}",
        }
        return texts[form]

    def _thread(self) -> int:
        beyond = self._wide and self._rng.random() < 0.2
        return self._rng.choice(_THREADS) + (BEYOND if beyond else 0)

    def _insert_thread(self, number: int) -> str:
        return (
            f"insert into {self._threads} as t ({self._number}, birth, log{self._side}) "
            f"values ({number}, '{self._tag}/t', array['{self._tag}'])"
        )

    def _insert_post(self, number: int, post: int) -> str:
        return (
            f"insert into {self._posts} (id, thread_id, birth, log{self._side}) "
            f"select {post}, p.id, '{self._tag}/p', array['{self._tag}'] "
            f"from {self._threads} as p where p.{self._number} = {number}"
        )

"""The columns of both tables and how V1's values look in V2, independent of the SQL. Pure."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

Image = dict[str, Any]  # a row as to_jsonb shows it; numbers with a point are text

# V1's name and V2's name of a column that both tables hold.
SHARED = {
    "birth": "birth", "owner_id": "org", "folder_id": "folder_id", "label_id": "label_id",
    "pos": "place", "title": "heading", "mood": "mood", "price": "cents", "spot": "spot",
    "happens": "happens", "meta": "meta", "mark": "mark", "log1": "log1", "log2": "log2",
    "logs": "logs", "hits1": "hits1", "hits2": "hits2", "hits": "hits", "slug": "slug",
    "updated_at": "updated_at", "edited": "edited", "loud": "loud",
}  # fmt: skip
# Every edit appends its tag to a list, or adds one to a number: so a lost edit is seen.
# log1 and hits1 are edited through V1 only, log2 and hits2 through V2 only, logs and hits through
# both.
LISTS = {1: ("log1", "log2", "logs"), 2: ("log1", "log2", "logs", "log_x")}
NUMBERS = {1: ("hits1", "hits2", "hits"), 2: ("hits1", "hits2", "hits", "reads")}
# Of these the last edit counts. What triggers compute is only compared between the tables.
LAST = ("owner_id", "folder_id", "label_id", "pos", "title", "mood", "price", "spot", "happens",
        "meta", "mark")  # fmt: skip


def shared_values(side: int, row: Image) -> Image:
    """Return what both tables must hold alike, in V2's form under V1's names."""
    if side == 2:
        found = {v1: row[v2] for v1, v2 in SHARED.items()}
    else:
        found = {v1: row[v1] for v1 in SHARED}
        if row["price"] is not None:
            found["price"] = Decimal(row["price"]) * 100
        if row["spot"] is not None:
            found["spot"] = {"x": row["spot"]["x"], "label": row["spot"]["label"]}
    for name in ("price", *NUMBERS[1]):
        if found[name] is not None:
            found[name] = int(found[name])
    if found["spot"] is not None:
        found["spot"] = {**found["spot"], "x": str(Decimal(found["spot"]["x"]))}
    return found


def load(text: str) -> Any:
    """Read JSON from the database; a number with a point stays the text it is."""
    return json.loads(text, parse_float=str)

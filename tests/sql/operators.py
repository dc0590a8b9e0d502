"""Signed-in people for tests of rights: claims as the Data API sets them."""

from __future__ import annotations

import json
from typing import Any

from tests.sql.control import Connection, call

ROLES = ["viewer", "operator", "admin"]


def sign_in(
    db: Connection, sub: str | None, *, role: str = "authenticated", **claims: Any
) -> Connection:
    """Act on this connection as that user, until it is closed."""
    found = {"role": role, **({"sub": sub} if sub else {}), **claims}
    db.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(found)])
    db.execute(f"set role {role}")
    return db


def add_operators(db: Connection) -> None:
    """One operator of each role, whose user id is the name of the role."""
    for role in reversed(ROLES):
        call(db, "add_operator", role, role, "test")


def operate(db: Connection, rpc: str, **params: Any) -> Any:
    """Call an RPC the way an operator does."""
    return call(db, "operate", rpc, params)

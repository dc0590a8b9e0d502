"""Execute a statement and find out what it did to which key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .client import Client
from .journal import Effect
from .rows import read_row
from .shape import Shape, select_list
from .statements import Statement
from .writer import TOKEN


def execute(client: Client, shape: Shape, statement: Statement, token: str) -> list[Effect]:
    """Execute the statement under its token; return its effects in order."""
    text = statement.sql.replace(TOKEN, token)
    if statement.returns == "all":
        row = client.send("select clock_timestamp()").fetchone()
        assert row is not None
        assert isinstance(row[0], datetime)
        client.send(text)
        return [Effect(statement.side, None, None, started_at=row[0])]
    if statement.returns == "merge":
        return _merge(client, shape, statement, token)
    if statement.returns == "token":
        client.copy_in(statement, token)
        return _written(client, shape, statement.side, token)
    found = client.send(text).fetchall()
    if statement.returns == "both":
        gone = [_effect(shape, statement, row[1:], gone=True) for row in found if row[0] == "d"]
        return gone + [_effect(shape, statement, row[1:]) for row in found if row[0] == "w"]
    gone_only = statement.returns == "gone"
    return [_effect(shape, statement, row, gone=gone_only) for row in found]


def _effect(
    shape: Shape, statement: Statement, values: tuple[Any, ...], *, gone: bool = False
) -> Effect:
    width = len(shape.keys(statement.side))
    key = shape.key(values[:width])
    row = None if gone else read_row(statement.side, values[width:])
    return Effect(statement.side, key, row, statement.moves.get(key))


def _written(client: Client, shape: Shape, side: int, token: str) -> list[Effect]:
    text = f"select {select_list(shape, side)} from {shape.table(side)} t where token = '{token}'"
    plain = Statement(side, "read", text, "rows")
    return [_effect(shape, plain, row) for row in client.send(text).fetchall()]


def _merge(client: Client, shape: Shape, statement: Statement, token: str) -> list[Effect]:
    """Lock the rows first, so that those missing afterwards are known to be ours."""
    names = ", ".join(f"t.{name}" for name in shape.keys(statement.side))
    listed = ", ".join(
        "(" + ", ".join(str(part) for part in shape.parts(key)) + ")" for key in statement.keys
    )
    rows = f"from {shape.table(statement.side)} t where ({names}) in ({listed})"
    locked = client.send(f"select {names} {rows} for update of t").fetchall()
    client.send(statement.sql.replace(TOKEN, token))
    left = {tuple(row) for row in client.send(f"select {names} {rows}").fetchall()}
    gone = [
        Effect(statement.side, shape.key(tuple(row)), None)
        for row in locked
        if tuple(row) not in left
    ]
    return gone + _written(client, shape, statement.side, token)

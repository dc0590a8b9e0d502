"""The V2 table that is proposed when there is none yet: V1's, to be changed by its owner. Pure."""

from dataclasses import replace
from typing import Final

from crossfade.catalog import Column, Policy, TableInfo
from crossfade.pair_columns import comment, literal, quoted

_LONGEST: Final = 63
_COMMANDS: Final = {"r": "select", "a": "insert", "w": "update", "d": "delete", "*": "all"}


def propose(one: TableInfo) -> TableInfo:
    """Return a V2 table like ``one``, under another name, that shares its sequences."""
    # PostgreSQL cuts what is longer, and would find V1's own name.
    kept = one.name.encode()[: _LONGEST - len("_v2")].decode(errors="ignore")
    name = f"{kept}_v2"
    columns = tuple(_shared(one, column) for column in one.columns)
    return replace(one, table=_name(one.schema, name), name=name, columns=columns, sample=())


def _shared(one: TableInfo, column: Column) -> Column:
    if not column.identity:
        return column
    # Rows written natively in either table must never collide. Of a constant PostgreSQL knows that
    # the default needs the sequence; a database of an older release does not say which it is.
    default = (
        f"nextval({literal(column.sequence)}::regclass)"
        if column.sequence
        else f"nextval(pg_get_serial_sequence({literal(one.table)}, {literal(column.name)}))"
    )
    return replace(column, default=default, identity=False)


def create_table(two: TableInfo, one: TableInfo) -> str:
    """Return the statements that create the proposed table with rights like those of ``one``."""
    lines = [_column_line(column) for column in two.columns]
    lines.append(f"primary key ({', '.join(quoted(name) for name in two.key)})")
    lines += [
        f"constraint {quoted(constraint.name)} {constraint.definition}"
        for constraint in one.constraints
        if constraint.kind in ("c", "f")
    ]
    body = ",\n  ".join(lines)
    parts = [
        f"create table {two.table} (\n  {body}\n);",
        f"comment on table {two.table} is {literal(f'V2 of {one.table}.')};",
        _rights(two, one),
    ]
    if one.row_security:
        parts.append(f"alter table {two.table} enable row level security;")
        parts += [_policy(two.table, policy) for policy in one.policies]
    others = [text for text in one.indexes if not text.startswith("CREATE UNIQUE")]
    if others:
        lines = [f"--   {comment(text)}" for text in others]
        parts.append("-- V1's indexes; V2 may need such as well:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _column_line(column: Column) -> str:
    text = f"{quoted(column.name)} {column.type}"
    if column.generated:
        return f"{text} generated always as ({column.generated}) stored"
    if column.default:
        text += f" default {column.default}"
    return f"{text} not null" if column.not_null else text


def _rights(two: TableInfo, one: TableInfo) -> str:
    roles = ("anon", "authenticated", "service_role")
    lines = [f"revoke all on {two.table} from {', '.join(roles)};"]
    for role in roles:
        rights = [name for name in one.grants.get(role, ()) if name in _DATA]
        if rights:
            lines.append(f"grant {', '.join(rights)} on {two.table} to {role};")
    if not one.grants.get("service_role"):
        lines.append(f"grant select, insert, update, delete on {two.table} to service_role;")
    writers = [r for r in roles if r == "service_role" or "insert" in one.grants.get(r, ())]
    lines += [
        # Nobody needs a right on the sequence of an identity column; for a default they do.
        f"grant usage on sequence {column.sequence} to {', '.join(writers)};"
        for column in one.columns
        if column.identity and column.sequence
    ]
    return "\n".join(lines)


_DATA: Final = ("select", "insert", "update", "delete")


def _policy(table: str, policy: Policy) -> str:
    kind = "" if policy.permissive else " as restrictive"
    name = policy.name.replace('"', '""')
    text = f'create policy "{name}" on {table}{kind}\n  for {_COMMANDS[policy.command]}'
    text += f" to {', '.join(policy.roles)}"
    if policy.using:
        text += f"\n  using ({policy.using})"
    if policy.check:
        text += f"\n  with check ({policy.check})"
    return f"{text};"


def _name(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"

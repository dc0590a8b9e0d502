"""The V2 table that is proposed when there is none yet: V1's, to be changed by its owner. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from crossfade.pairs.catalog import Column, Policy, TableInfo
from crossfade.pairs.columns import comment, literal, quoted
from crossfade.pairs.keys import adapted, names_any, v2_names

_LONGEST: Final = 63
_COMMANDS: Final = {"r": "select", "a": "insert", "w": "update", "d": "delete", "*": "all"}


def propose(one: TableInfo, own: tuple[str, ...] = ()) -> tuple[TableInfo, list[str]]:
    """Return a V2 table like ``one``, under another name, that shares its sequences.

    Args:
        one: V1, with the key of the pair.
        own: V1's primary key, where the pair is keyed by other columns: V2 keeps it beside.

    Returns:
        The table, and what of V1 nobody could carry over for sure.
    """
    # PostgreSQL cuts what is longer, and would find V1's own name.
    kept = one.name.encode()[: _LONGEST - len("_v2")].decode(errors="ignore")
    name = f"{kept}_v2"
    renamed = v2_names(one, own)
    types = {
        parent.columns[0]: pair.v2_key_types[0]
        for parent in one.parents
        if (pair := parent.pair)
        and parent.table == pair.v1_table
        and len(parent.columns) == 1
        # Where the parent's pair is keyed by what the child holds, nothing changes.
        and len(pair.key) == 1
        and parent.parent_columns != pair.key
    } | {
        parent.columns[0]: column.type
        for parent in one.parents
        if parent.table == one.table and parent.parent_columns == own and len(own) == 1
        if (column := one.column(one.key[0]))
    }
    carried = set(one.key) if own else set()
    columns = tuple(
        _adapted(_shared(one, column), renamed.get(column.name, column.name), types)
        for column in sorted(one.columns, key=lambda column: column.name not in carried)
    )
    table, key = _name(one.schema, name), tuple(renamed.get(k, k) for k in one.key)
    constraints, left = adapted(one, (table, key), renamed, types)
    # The carried column is new: no policy of V1 can mean it, and many say auth.uid().
    changed = {*own, *types} if renamed else {*types}
    policies = tuple(p for p in one.policies if not _names(p, changed))
    left += [f"policy {p.name}: {p.using or p.check}" for p in one.policies if _names(p, changed)]
    two = replace(
        one,
        table=table,
        name=name,
        key=key,
        keys=(tuple(renamed.get(column, column) for column in own),) if own else (),
        columns=columns,
        constraints=constraints,
        policies=policies,
        sample=(),
    )
    return two, left


def _names(policy: Policy, names: Collection[str]) -> bool:
    return names_any(policy.using, names) or names_any(policy.check, names)


def _adapted(column: Column, name: str, types: Mapping[str, str]) -> Column:
    if column.name not in types:
        return replace(column, name=name)
    kind = types[column.name]
    return replace(column, name=name, type=kind, base_type=kind, default=None, sequence=None)


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


def create_table(two: TableInfo, one: TableInfo, left: Sequence[str] = ()) -> str:
    """Return the statements that create the proposed table with rights like those of ``one``.

    Args:
        two: the table.
        one: V1.
        left: of V1, what the table does not have; shown as comments.
    """
    lines = [_column_line(column) for column in two.columns]
    lines.append(f"primary key ({', '.join(quoted(name) for name in two.key)})")
    lines += [f"unique ({', '.join(quoted(name) for name in key)})" for key in two.keys]
    lines += [
        f"constraint {quoted(constraint.name)} {constraint.definition}"
        for constraint in two.constraints
    ]
    body = ",\n  ".join(lines)
    parts = [
        f"create table {two.table} (\n  {body}\n);",
        f"comment on table {two.table} is {literal(f'V2 of {one.table}.')};",
        _rights(two, one),
    ]
    if one.row_security:
        parts.append(f"alter table {two.table} enable row level security;")
        parts += [_policy(two.table, policy) for policy in two.policies]
    others = [text for text in one.indexes if not text.startswith("CREATE UNIQUE")]
    if others:
        lines = [f"--   {comment(text)}" for text in others]
        parts.append("-- V1's indexes; V2 may need such as well:\n" + "\n".join(lines))
    if left:
        lines = [f"--   {comment(text)}" for text in left]
        parts.append("-- V1 has these; write them for V2's columns:\n" + "\n".join(lines))
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

"""Everything a database holds outside some schemas, as lines that can be compared."""

from typing import Any

import psycopg

_OTHERS = (
    "n.nspname !~ '^pg_' and n.nspname not in"
    " ('information_schema', 'crossfade', 'crossfade_private', 'supabase_migrations')"
)
_QUERIES = {
    "schema": "select n.nspname, n.nspname, n.nspowner::regrole, n.nspacl,"
    " obj_description(n.oid, 'pg_namespace') from pg_namespace n",
    "relation": "select n.nspname, c.oid::regclass, c.relkind, c.relowner::regrole, c.relacl,"
    " c.relrowsecurity, c.relforcerowsecurity, c.reloptions, obj_description(c.oid, 'pg_class')"
    " from pg_class c join pg_namespace n on n.oid = c.relnamespace",
    "column": "select n.nspname, c.oid::regclass, a.attname,"
    " format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attacl,"
    " pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " join pg_namespace n on n.oid = c.relnamespace"
    " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
    " where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'm', 'p')",
    "index": "select n.nspname, pg_get_indexdef(i.indexrelid), i.indisvalid from pg_index i"
    " join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace",
    "constraint": "select n.nspname, o.conrelid::regclass, o.conname, pg_get_constraintdef(o.oid),"
    " o.convalidated from pg_constraint o join pg_namespace n on n.oid = o.connamespace",
    "trigger": "select n.nspname, pg_get_triggerdef(g.oid), g.tgenabled from pg_trigger g"
    " join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace"
    " where not g.tgisinternal",
    "policy": "select n.nspname, c.oid::regclass, l.polname, l.polcmd, l.polroles::regrole[],"
    " pg_get_expr(l.polqual, c.oid), pg_get_expr(l.polwithcheck, c.oid) from pg_policy l"
    " join pg_class c on c.oid = l.polrelid join pg_namespace n on n.oid = c.relnamespace",
    "function": "select n.nspname, p.oid::regprocedure, p.proowner::regrole, p.proacl,"
    " md5(pg_get_functiondef(p.oid)), obj_description(p.oid, 'pg_proc') from pg_proc p"
    " join pg_namespace n on n.oid = p.pronamespace where p.prokind in ('f', 'p')",
    "type": "select n.nspname, y.oid::regtype, y.typtype, y.typacl from pg_type y"
    " join pg_namespace n on n.oid = y.typnamespace where y.typtype <> 'b'",
    "publication": "select null, p.pubname, p.puballtables, r.prrelid::regclass from pg_publication"
    " p left join pg_publication_rel r on r.prpubid = p.oid",
    "default right": "select null, d.defaclrole::regrole, d.defaclnamespace::regnamespace,"
    " d.defaclobjtype, d.defaclacl from pg_default_acl d",
    "extension": "select null, e.extname, e.extversion from pg_extension e",
    "event trigger": "select null, e.evtname, e.evtevent from pg_event_trigger e",
    "role": "select null, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcanlogin from pg_roles r",
    "membership": "select null, m.roleid::regrole, m.member::regrole from pg_auth_members m",
    "setting": "select null, s.setdatabase, s.setrole::regrole, s.setconfig from"
    " pg_db_role_setting s",
    "comment": "select null, s.classoid::regclass, s.description from pg_shdescription s",
}


def catalog_lines(url: str) -> set[str]:
    """Return one line for each object outside our schemas and PostgreSQL's own."""
    found: set[str] = set()
    with psycopg.connect(url) as connection:
        connection.execute("set search_path = ''")
        for kind, query in _QUERIES.items():
            # Filtered there, and not here: PostgreSQL's own functions are three thousand.
            if query.startswith("select n.nspname"):
                query = query.replace(" where ", " where " + _OTHERS + " and ")
                query += "" if " where " in query else " where " + _OTHERS
            for _, *values in connection.execute(query).fetchall():
                found.add(f"{kind}: {_text(values)}")
    return found


def _text(values: list[Any]) -> str:
    return " | ".join("-" if value is None else str(value) for value in values)

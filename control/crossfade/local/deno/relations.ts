/** The tables and views of the exposed schemas, with the types that values are cast to. */
import type { PostgresConnection } from "@supabase/lite/postgres";

/** A table or view. */
export interface Relation {
  schema: string;
  name: string;
  /** Types by column, in order; with precision, such as numeric(6,3). */
  columns: Map<string, string>;
}

/** Relations by `schema.name`. */
export type Relations = Map<string, Relation>;

/** Read them from the catalog. */
export async function readRelations(
  { driver }: PostgresConnection,
  schemas: string[],
): Promise<Relations> {
  const rows = await driver.begin("read only", async (sql) => {
    // With an empty search path, format_type names every type in full.
    await sql`set local search_path to ''`;
    return await sql`
      select n.nspname as schema, c.relname as name, a.attname as column,
        format_type(a.atttypid, a.atttypmod) as type
      from pg_catalog.pg_class as c
      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
      join pg_catalog.pg_attribute as a on a.attrelid = c.oid
      where n.nspname in ${sql(schemas)} and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and not c.relispartition and a.attnum > 0 and not a.attisdropped
      order by n.nspname, c.relname, a.attnum`;
  });
  const relations: Relations = new Map();
  for (const { schema, name, column, type } of rows) {
    const key = `${schema}.${name}`;
    const relation = relations.get(key) ?? { schema, name, columns: new Map() };
    relation.columns.set(column, type);
    relations.set(key, relation);
  }
  return relations;
}

/** Quote a name for SQL. */
export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

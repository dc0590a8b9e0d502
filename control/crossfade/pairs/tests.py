"""Tests of a new pair's converters, in SQL and TypeScript, from sample rows. Pure."""

import json
from collections.abc import Sequence

from crossfade.pairs.catalog import TableInfo
from crossfade.pairs.columns import literal, quoted
from crossfade.pairs.keys import Keys

_SQL = """\
-- The laws of pair {name} on sample rows. Prints TAP; runs with `supabase test db` and with
-- psql -X -f FILE. Writes nothing: it ends in a rollback.
begin;

create temporary table crossfade_results on commit drop as
with v1 as (
  select row_number() over () n, r as a
  from jsonb_populate_recordset(null::{one}, {v1_rows}) r
),
v2 as (
  select row_number() over () n, r as b
  from jsonb_populate_recordset(null::{two}, {v2_rows}) r
  union all -- and what V1's samples become
  select 1000 + v1.n, c from v1 cross join lateral {to_v2}(v1.a, null) c
),
results as (
  select format('V1 row %s comes back the same (law 1)', v1.n) as claim,
    to_jsonb(back) - {generated_1} = to_jsonb(v1.a) - {generated_1} as holds
  from v1
  left join lateral {to_v2}(v1.a, null) made on true
  left join lateral {to_v1}(made, null) back on true
  union all
  select format('V2 row %s comes back the same (law 2)', v2.n),
    to_jsonb(back) - {generated_2} = to_jsonb(v2.b) - {generated_2}
  from v2
  left join lateral {to_v1}(v2.b, null) made on true
  left join lateral {to_v2}(made, v2.b) back on true
  union all
  -- The next sample row with the key of this one: an edit of everything else.
  select format('an edit of V1 row %s wins (law 3)', v1.n),
    to_jsonb(back) - {generated_1} = to_jsonb(edited) - {generated_1}
  from v1
  join v1 later on later.n = v1.n + 1
  cross join lateral jsonb_populate_record(later.a, {key_json}) edited
  left join lateral {to_v2}(v1.a, null) stored on true
  left join lateral {to_v2}(edited, stored) made on true
  left join lateral {to_v1}(made, v1.a) back on true
)
select row_number() over () n, claim, coalesce(holds, false) as holds from results;

select '1..' || count(*) from crossfade_results;
select case when holds then 'ok ' else 'not ok ' end || n || ' - ' || claim
from crossfade_results order by n;

rollback;
"""


def sql_test(
    name: str, one: TableInfo, two: TableInfo, functions: tuple[str, str], keys: Keys
) -> str:
    """Return a TAP test of the laws; ``functions`` are to_v2 and to_v1."""
    to_v2, to_v1 = functions
    key = ", ".join(f"{literal(column)}, (v1.a).{quoted(column)}" for column in one.key)
    return _SQL.format(
        name=name,
        one=one.table,
        two=two.table,
        to_v2=to_v2,
        to_v1=to_v1,
        v1_rows=_literal(one),
        v2_rows=_literal(two),
        generated_1=_left_out(one, [k.column_1 for k in keys.look_ups]),
        generated_2=_left_out(two, [k.column_2 for k in keys.look_ups]),
        key_json=f"jsonb_build_object({key})",
    )


def _literal(table: TableInfo) -> str:
    text = json.dumps(list(table.sample), ensure_ascii=False, indent=2)
    return "'" + text.replace("'", "''") + "'::jsonb"


def _left_out(table: TableInfo, looked_up: Sequence[str]) -> str:
    """Columns that samples alone cannot prove: computed ones, and what parents have to say."""
    names = [column.name for column in table.columns if column.generated]
    return f"array[{', '.join(literal(name) for name in (*names, *looked_up))}]::text[]"


_TS = """\
/** The laws of pair {name} on sample rows. Run: deno test --allow-read {file} */
import assert from "node:assert/strict";
import {{ toV1, toV2, type V1Row, type V2Row }} from "./convert.ts";
import samples from "./samples.json" with {{ type: "json" }};

const v1Rows = samples.v1 as unknown as V1Row[];
const v2Rows = [
  ...samples.v2 as unknown as V2Row[],
  ...v1Rows.map((row) => toV2(row, null)),
];

/** Without the columns that the table computes. */
function stored<T extends object>(
  row: T,
  generated: readonly string[],
): object {{
  return Object.fromEntries(
    Object.entries(row).filter(([name]) => !generated.includes(name)),
  );
}}

const GENERATED_V1: readonly string[] = {generated_1};
const GENERATED_V2: readonly string[] = {generated_2};

v1Rows.forEach((row, index) => {{
  Deno.test(`V1 row ${{index + 1}} comes back the same (law 1)`, () => {{
    const back = toV1(toV2(row, null), null);
    assert.deepEqual(stored(back, GENERATED_V1), stored(row, GENERATED_V1));
  }});
}});

v2Rows.forEach((row, index) => {{
  Deno.test(`V2 row ${{index + 1}} comes back the same (law 2)`, () => {{
    const back = toV2(toV1(row, null), row);
    assert.deepEqual(stored(back, GENERATED_V2), stored(row, GENERATED_V2));
  }});
}});

v1Rows.slice(1).forEach((later, index) => {{
  Deno.test(`an edit of V1 row ${{index + 1}} wins (law 3)`, () => {{
    const row = v1Rows[index] as V1Row;
    const edited: V1Row = {{ ...later, {key} }};
    const back = toV1(toV2(edited, toV2(row, null)), row);
    assert.deepEqual(stored(back, GENERATED_V1), stored(edited, GENERATED_V1));
  }});
}});
"""


def typescript_test(name: str, one: TableInfo, two: TableInfo, keys: Keys) -> str:
    """Return a Deno test of the laws."""
    key = ", ".join(f"{json.dumps(column)}: row[{json.dumps(column)}]" for column in one.key)
    return _TS.format(
        name=name,
        file=f"supabase/functions/_shared/{name}/convert_test.ts",
        generated_1=_script_list(one, [k.column_1 for k in keys.look_ups]),
        generated_2=_script_list(two, [k.column_2 for k in keys.look_ups]),
        key=key,
    )


def _script_list(table: TableInfo, looked_up: Sequence[str]) -> str:
    return json.dumps([*(c.name for c in table.columns if c.generated), *looked_up])

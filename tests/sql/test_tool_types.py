"""The types of old tools, in the worked pair as in the adapter."""

import json
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "tool_types.json"
PAIR = ROOT / "sql" / "pairs" / "agent_tools.sql"


def test_old_types_become_those_of_the_vectors(db: psycopg.Connection[tuple[Any, ...]]) -> None:
    db.execute(PAIR.read_bytes())
    query = "select agent_tools_private.put_schema(%s::jsonb, null) -> 'properties' -> 'a'"
    wrong = {}
    for case in json.loads(VECTORS.read_text())["cases"]:
        found = db.execute(query, [json.dumps({"a": case["input"]})]).fetchone()
        if found != (case["expect"],):
            wrong[case["name"]] = found
    assert wrong == {}

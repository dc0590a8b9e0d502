"""Takes public data sets through the adapters in Deno, and back: equal to the byte."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from tests import corpora

from crossfade.local.deno_runtime import deno_bin

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "supabase" / "functions" / "chat" / "deno.json"


@cache
def adapted() -> dict[str, Any]:
    """Run all data sets through one Deno process."""
    given = {
        "tools": corpora.tools(),
        "dialogues": corpora.dialogues(),
        "results": corpora.results(),
        "histories": corpora.histories(200),
    }
    script = Path(__file__).with_name("corpora.ts")
    result = subprocess.run(
        [str(deno_bin()), "run", "--quiet", "--config", str(CONFIG), "--frozen", str(script)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_data_sets_are_whole() -> None:
    assert len(corpora.tools()) == 8_726
    assert len(corpora.dialogues()) == 28
    assert sum(map(len, corpora.dialogues().values())) == 19_597
    assert len(corpora.results()) == 426


def test_every_tool_dialogue_and_result_comes_back_to_the_byte() -> None:
    assert adapted()["count"] == 0, adapted()["faults"]


def test_every_tool_is_one_that_a_provider_takes() -> None:
    """Checked by others' code: an alias each, and a valid JSON Schema."""
    wire = adapted()["wire_tools"]
    aliases = {
        tool["name"]: sent["function"]["name"]
        for tool, sent in zip(corpora.tools(), wire, strict=True)
    }
    assert len(set(aliases.values())) == len(aliases) == 1_853
    assert [
        name for name in aliases.values() if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    ] == []
    schemas = {json.dumps(sent["function"]["parameters"]) for sent in wire}
    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    assert [schema for schema in schemas if not validator.is_valid(json.loads(schema))] == []

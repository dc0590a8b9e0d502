"""Takes recorded answers of models through the reader, both formats and the export, in Deno."""

import json
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from tests import recorded

from crossfade.local.deno_runtime import deno_bin

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "supabase" / "functions" / "chat" / "deno.json"


@cache
def read() -> dict[str, Any]:
    """Run all answers through one Deno process."""
    script = Path(__file__).with_name("recorded.ts")
    result = subprocess.run(
        [str(deno_bin()), "run", "--quiet", "--config", str(CONFIG), "--frozen", str(script)],
        input=json.dumps(recorded.answers()),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_recordings_are_of_many_providers_whole_and_streamed() -> None:
    forms = Counter(answer["kind"].split()[1] for answer in recorded.answers())
    assert forms == {"whole": 300, "stream": 191}
    kinds = Counter(answer["kind"] for answer in recorded.answers())
    assert min(kinds.values()) >= 20, kinds
    assert len({answer["host"] for answer in recorded.answers()}) >= 10


def test_every_recorded_answer_comes_back_exactly_or_is_left_out_by_name() -> None:
    """What each says, V2 to V1 and back, and what each of three providers is sent of it."""
    assert read()["count"] == 0, "\n\n".join(read()["faults"])
    counts = read()["counts"]
    total = len(recorded.answers())
    assert counts["through V2, V1 and back"] == total
    assert counts["as it was said"] == 300
    for provider in ("openai_chat", "openai_responses", "anthropic"):
        whole = counts[f"{provider} exact"]
        assert whole + counts[f"{provider} rest exact, others by name"] == total
        assert whole > total / 2
    outcomes = {name.split()[1] for name in counts if name.startswith("outcome ")}
    assert outcomes == {"answered", "called", "length", "empty", "paused"}

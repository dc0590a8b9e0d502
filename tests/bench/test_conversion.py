"""Messages per second of the adapter, against parsing and writing the same messages."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from crossfade.demo import history
from tests import corpora

from .measure import ROOT, Report
from .test_edge import deno, summary

ROWS = 20_000
LONGEST_US = 1_000  # 95 of 100 messages take less

Json = dict[str, Any]


def plain() -> list[Json]:
    """Return messages of the demo's history, as a V1 client reads them."""
    found: Iterator[Json] = (
        {
            "id": str(message.id),
            "chat_id": str(message.chat_id),
            "user_id": str(message.user_id),
            "role": message.role,
            "content": message.content,
            "metadata": {},
            "created_at": message.created_at,
            "updated_at": None,
            "sequence_number": message.sequence_number,
        }
        for chat in history.chats(history.read_dataset(), rows=ROWS)
        for message in chat.messages
    )
    return list(itertools.islice(found, ROWS))


def rich() -> list[Json]:
    """Return the same messages with what agents store beside: a call of a tool of BFCL, a file."""
    return [
        message | {"metadata": metadata(number, tool)}
        for number, (message, tool) in enumerate(
            zip(plain(), itertools.cycle(corpora.tools()), strict=False)
        )
    ]


def metadata(number: int, tool: Json) -> Json:
    """Every message names its model and tokens; every other one has a call, every third a file."""
    found: Json = {
        "model": "m-1",
        "tokens": {"prompt": 210 + number, "completion": 31},
        "finish_reason": "stop",
        "trace": {"id": f"t{number}", "spans": [1, 2, 3]},
    }
    if number % 2:
        given = {name: f"value of {name}" for name in tool["parameters"]["properties"]}
        call = {"name": tool["name"], "arguments": json.dumps(given)}
        found |= {
            "finish_reason": "tool_calls",
            "reasoning": "This tool may know.",
            "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}],
        }
    if number % 3 == 0:
        file = {"name": "a.pdf", "content_type": "application/pdf", "size": number}
        found["attachments"] = [{"url": f"https://example.org/{number}", **file}]
    return found


@pytest.mark.parametrize("messages", [plain, rich])
def test_converting_is_as_fast_as_reading_and_writing_json(messages: Any, report: Report) -> None:
    command = deno(
        "tests/edge/bench_conversion.ts",
        "21",
        config="supabase/functions/chat/deno.json",
        allow=(),
    )
    result = subprocess.run(
        command,
        input=json.dumps(messages()),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=300,
    )
    *rounds, single = [json.loads(line) for line in result.stdout.splitlines()]
    ratios = [
        (found["json_of_v1"] + found["json_of_v2"]) / (found["up"] + found["down"])
        for found in rounds
    ]
    beside = {
        "toV2 alone": statistics.median(found["json_of_v1"] / found["up"] for found in rounds),
        "toV1 alone": statistics.median(found["json_of_v2"] / found["down"] for found in rounds),
    }
    beside |= single
    for name in rounds[0]:
        beside[f"{name}, microseconds"] = statistics.median(found[name] for found in rounds)
    report.add(
        f"toV2 and toV1, messages/s, {messages.__name__} messages",
        summary(ratios, beside),
        ">= 1.0",
        against="JSON.parse and JSON.stringify of the same messages in both formats",
    )
    assert max(single.values()) < LONGEST_US, single

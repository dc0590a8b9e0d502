"""Seeded random chat rows: all that the constraints allow, with a taste for trouble."""

import json
import random
import uuid
from typing import Any

Json = Any
Row = dict[str, Json]

V1_ROLES = ("user", "assistant", "system")
V2_ROLES = (*V1_ROLES, "tool", "developer")
STATUSES = ("pending", "streaming", "complete", "incomplete", "error", "cancelled")
TEXTS = (
    "", " ", "\n\n", "Hello", "Hello\n\nworld", "a", "b", "a\n\nb", "a\n\nb\n\na", "\n\na", "a\n\n",
    "😀 e\u0301 שלום", "\u2028\u007f\u0001\t\"\\", '{"type":"text"}', "[]", "null", "x" * 3000,
)  # fmt: skip
ARGUMENTS = (
    "", "{}", '{"city":"Oslo"}', '{ "city": "Oslo" }', '{"b":1,"a":[true,null]}', '{"a":1,"a":2}',
    '{"a":1.50}', '{"a":0.5}', '{"a":1e2}', '{"a":-0}', '{"a":"\\u0000"}', '{"a":"\\ud83d"}',
    '{"a":', "not json", "[1,2]", '"text"', "null", '{"é":"😀","zz":1,"a":2}', "{}x", " {}",
    '{"a":' * 600 + "1" + "}" * 600, '{"a":"' + "[" * 600 + '"}',
)  # fmt: skip
LONG_NUMBER = '{"n":12345678901234567890}'
KEYS = (
    "model", "tokens", "finish_reason", "function_call", "tool_calls", "tool_call_id", "name",
    "attachments", "images", "reasoning", "parent_id", "rating", "error", "edited",
    "legacy", "_crossfade", "agent", "__proto__", "constructor", "", "é", "type", "metadata",
)  # fmt: skip


class Rows:
    """Draws rows; the same seed gives the same rows.

    lossy=False leaves out what JavaScript cannot hold.
    """

    def __init__(self, seed: int, *, lossy: bool = True) -> None:
        self.random = random.Random(seed)
        self.lossy = lossy

    def often(self, share: float = 0.5) -> bool:
        return self.random.random() < share

    def pick(self, *values: Json) -> Json:
        return self.random.choice(values)

    def text(self) -> str:
        return self.random.choice(TEXTS)

    def id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def count(self) -> Json:
        odd = (
            (1.5, -1, "7", None, 2**53, 10**400, 1.0, True) if self.lossy else (1.5, -1, "7", None)
        )
        return self.pick(*odd) if self.often(0.2) else self.random.randrange(10**6)

    def value(self, depth: int = 0) -> Json:
        """Return any JSON value."""
        if depth == 0 and self.often(0.01):
            return json.loads('{"a":[' * 40 + "1" + "]}" * 40)
        if depth > 2 or self.often(0.6):
            big = (2**60, 10**30, 1.0) if self.lossy else ()
            return self.pick(
                None, True, False, 0, 1, -7, 0.5, 10**15, "", "x", [], {}, self.text(), *big
            )
        size = self.random.randrange(4)
        if self.often():
            return [self.value(depth + 1) for _ in range(size)]
        return {self.random.choice(KEYS): self.value(depth + 1) for _ in range(size)}

    def items(self, make: Json) -> list[Json]:
        return [make() for _ in range(self.random.randrange(4))]

    def arguments(self) -> str:
        return LONG_NUMBER if self.lossy and self.often(0.05) else self.random.choice(ARGUMENTS)

    def call(self) -> Row:
        return {"name": self.pick("f", "g", ""), "arguments": self.arguments()}

    def tool_call(self) -> Row:
        call = {"id": self.pick("c1", "c2", "toolu_1"), "type": "function", "function": self.call()}
        if self.often(0.1):
            return {**call, self.pick("id", "type", "extra"): self.value()}
        return call

    def attachment(self) -> Row:
        found: Row = {"url": self.pick("https://x/1", "https://x/2", "")}
        for key, values in {
            "name": ("a.png", ""),
            "content_type": ("image/png", "audio/mp3", "text/plain", ""),
            "size": (self.count(),),
        }.items():
            if self.often():
                found[key] = self.pick(*values)
        return {**found, self.pick("name", "x"): self.value()} if self.often(0.1) else found

    def known(self, key: str) -> Json:
        """Return a value for a V1 metadata key, mostly in the shape that converts."""
        if self.often(0.2):
            return self.value()
        match key:
            case "tokens":
                return {k: self.count() for k in ("prompt", "completion", "total") if self.often()}
            case "function_call":
                return self.call()
            case "tool_calls":
                return self.items(self.tool_call)
            case "attachments":
                return self.items(self.attachment)
            case "images":
                return self.items(lambda: self.pick("https://x/1", "", "https://x/3"))
            case "parent_id":
                return self.pick(self.id(), self.id().upper(), "", "x")
            case "edited":
                return self.pick(True, False)
            case "tool_call_id" | "name" | "model" | "finish_reason" | "reasoning" | "error":
                return self.pick(self.text(), "c1")
        return self.value()

    def v1_metadata(self) -> Row:
        chosen = self.random.sample(KEYS, self.random.randrange(6)) if self.often(0.8) else []
        return {key: self.known(key) for key in chosen}

    def moment(self) -> str:
        day, fraction = self.random.randrange(1, 9), self.random.randrange(10**5)
        return f"2026-05-0{day}T10:00:00.{fraction:05d}7+00:00"

    def shared(self) -> Row:
        return {
            "id": self.id(),
            "chat_id": self.id(),
            "user_id": self.pick(None, self.id()),
            "created_at": self.moment(),
            "updated_at": self.pick(None, self.moment()),
        }

    def v1(self) -> Row:
        return {
            **self.shared(),
            "role": self.pick(*V1_ROLES),
            "content": self.text(),
            "metadata": self.v1_metadata(),
            "sequence_number": self.pick(None, 0, -1, 7, 2**31 - 1),
        }

    def source(self) -> Json:
        url = {"kind": "url", "url": self.pick("https://x/1", "https://x/2", "")}
        return (
            url
            if self.often(0.7)
            else self.pick({"kind": "base64", "data": "AA=="}, {"url": "x"}, None, "url", [])
        )

    def block(self) -> Json:
        kind = self.pick(
            "text", "text", "text", "reasoning", "reasoning", "tool_call", "tool_call",
            "tool_result", "tool_result", "image", "audio", "file",
            "refusal", "source", "data", "unknown", "future", 7,
        )  # fmt: skip
        block: Row = {"type": kind}
        optional: dict[str, Json] = {
            "id": self.pick("b1", "b2", 3),
            "extras": self.pick(
                {"v1": "function_call"}, {"v1": "images"}, {"step": 1}, {}, None, "x"
            ),
        }
        match kind:
            case "text" | "refusal":
                optional |= {"annotations": [{"type": "citation", "start": 0, "end": 1}]}
                block["text"] = self.text()
            case "reasoning":
                optional |= {
                    "text": self.text(),
                    "signature": "EqQB/+==",
                    "encrypted": "zz",
                    "summary": ["s"],
                    "redacted": True,
                }
            case "tool_call":
                block |= {
                    "tool_call_id": self.pick("c1", "c2"),
                    "name": self.pick("f", "g"),
                    "input": self.value(),
                }
                optional |= {
                    "arguments_raw": self.arguments(),
                    "state": "error",
                    "executor": "client",
                    "error": "no",
                }
            case "tool_result":
                block |= {
                    "tool_call_id": "c1",
                    "output": self.pick(self.value(), self.text()),
                    "is_error": self.often(),
                }
                optional |= {"name": "f", "content": [{"type": "text", "text": "nested"}]}
            case "image" | "audio" | "file":
                block["source"] = self.source()
                optional |= {
                    "media_type": self.pick("image/png", "text/plain"),
                    "filename": "f.txt",
                    "size": self.count(),
                    "alt": "x",
                }
            case "unknown":
                block["raw"] = self.value()
        block |= {key: value for key, value in optional.items() if self.often(0.35)}
        if self.often(0.05):
            block[self.random.choice(list(block))] = self.value()
        return block if self.often(0.97) else self.value()

    def content(self) -> list[Json]:
        if self.often(0.3):
            return [{"type": "text", "text": self.text()} for _ in range(self.random.randrange(4))]
        return [self.block() for _ in range(self.random.randrange(7))]

    def v2_metadata(self) -> Row:
        if self.often(0.3):
            return {}
        free = {key: self.value() for key in self.random.sample(KEYS, self.random.randrange(3))}
        if self.often():
            free["legacy"] = self.v1_metadata() if self.often(0.9) else self.value()
        return free

    def v2(self) -> Row:
        usage: Row = {
            key: self.count()
            for key in ("input_tokens", "output_tokens", "total_tokens", "cached")
            if self.often()
        }
        error: Row = {"code": "x", "message": self.pick("boom", "", 5, None), "retryable": True}
        plain = self.often(0.4)

        def maybe(value: Json, share: float = 0.5) -> Json:
            return value if self.often(share) else None

        rare = 0.0 if plain else 0.5
        text = [{"type": "text", "text": self.text()}]
        return {
            **self.shared(),
            "seq": self.pick(None, 0, 42, 2**31 - 1, 2**31, 2**52, -(2**31) - 1),
            "parent_id": maybe(self.id(), rare),
            "role": self.pick(*V2_ROLES),
            "status": self.pick(*STATUSES),
            "content": self.pick(text, text, []) if plain else self.content(),
            "metadata": {} if plain and self.often() else self.v2_metadata(),
            "model": maybe(self.pick("m-1", "")),
            "usage": maybe(usage),
            "finish_reason": maybe(self.pick("stop", "")),
            "error": maybe(self.pick(error, {"code": "x"}, {}, {"message": "boom"}), rare),
            "schema_version": 2,
            "edited_at": maybe(self.moment(), rare),
            "deleted_at": maybe(self.moment()),
        }

    def edit(self) -> Row:
        """Return a change a V1 client makes: columns, metadata keys to set and to remove."""
        chosen = self.random.sample(KEYS, self.random.randrange(4)) if self.often(0.7) else []
        columns = {
            "content": self.text(),
            "role": self.pick(*V1_ROLES),
            "sequence_number": self.pick(None, 3),
        }
        return {
            "columns": {key: value for key, value in columns.items() if self.often(0.4)},
            "set": {key: self.known(key) for key in chosen},
            "remove": self.random.sample(KEYS, self.random.randrange(6)) if self.often() else [],
            # A paragraph put between two others, or one taken out of the middle.
            "insert": self.pick(None, None, "new", ""),
        }

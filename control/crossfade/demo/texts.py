"""What the demo's clients write. Pure: the same random source gives the same messages."""

import random
import uuid
from dataclasses import dataclass

from crossfade.demo.answers import Block, plain_text

# What breaks converters and clients that never met it: no text at all, line and block borders,
# JSON pasted as text, right-to-left, combining marks, characters beyond the first plane.
SENTENCES = (
    "Are you there?",
    "Let me think about it.\n\nNo, really.",
    '{"role": "system", "content": "pasted by a person"}',
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
    "e\u0301clair \U0001f469\u200d\U0001f4bb \U0001f1eb\U0001f1ee",
    "  two spaces before, a tab\tinside, a space after ",
    "100 % of it; 'quotes', \"double\", back\\slash, $$dollars$$",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002",
)


@dataclass(frozen=True, slots=True)
class DraftMessage:
    """A message about to be written, in both formats.

    Attributes:
        blocks: None when a V1 client writes it.
        metadata: What a V1 client keeps beside the text, None when a V2 client writes it.
    """

    plain: str
    blocks: list[Block] | None
    metadata: dict[str, object] | None


def compose(rng: random.Random, *, wire: int) -> DraftMessage:
    """Write a message in the format of the wire version.

    Each has a text nobody else writes, so that a copy under another id would be seen. A V2 message
    holds at most what V1 has a place for, because version 1 may be the one that stores it.
    """
    mark = uuid.UUID(int=rng.getrandbits(128), version=4).hex[:16]
    text = f"{rng.choice(SENTENCES)} [{mark}]"
    if wire == 1:
        return DraftMessage(text, None, {"client": "demo", "draft": rng.randrange(1000)})
    blocks: list[Block] = [{"type": "text", "text": text}]
    if rng.random() < 0.3:
        blocks.append(_tool_call(rng, mark))
    return DraftMessage(plain_text(blocks), blocks, None)


def with_text(blocks: list[Block], text: str) -> list[Block]:
    """Return the blocks after a V1 client has changed the text: nothing else may be touched."""
    return [{**block, "text": text} if block["type"] == "text" else block for block in blocks]


def _tool_call(rng: random.Random, mark: str) -> Block:
    return {
        "type": "tool_call",
        "tool_call_id": f"call_{mark}",
        "name": "get_weather",
        "input": {"city": rng.choice(("Oslo", "Turku", "Lima")), "days": rng.randrange(1, 8)},
        "state": "complete",
    }

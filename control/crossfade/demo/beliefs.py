"""What a client believes of its chat, and what contradicts it. Pure."""

import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from crossfade.demo import answers
from crossfade.demo.answers import Block, Json

CHAT_LENGTH = 40  # messages a user writes before opening the next chat; bounds what is kept


@dataclass(frozen=True, slots=True)
class Kept:
    """A message as its owner last got it acknowledged.

    Attributes:
        blocks: Set since a V2 client wrote the message.
        metadata: Set while only V1 clients wrote the message: it must come back unchanged.
    """

    id: uuid.UUID
    plain: str
    blocks: list[Block] | None = None
    metadata: dict[str, object] | None = None


@dataclass(slots=True)
class OpenChat:
    """The chat a session is in: what must be there, in order, and what must not."""

    id: uuid.UUID
    kept: list[Kept] = field(default_factory=list)
    written: int = 0
    deleted: deque[uuid.UUID] = field(default_factory=lambda: deque(maxlen=16))


def content_problems(kept: Kept, message: Json, wire: int) -> list[str]:
    """Compare an answer with what its owner wrote; the texts differ only if something is wrong."""
    if wire == 2:
        blocks = answers.blocks_of(message)
        if kept.blocks is not None:
            return answers.block_problems(kept.blocks, blocks)
        text = answers.plain_text(blocks)
        return [] if text == kept.plain else [f"wrote {kept.plain!r}, read {text!r}"]
    problems = []
    if message.get("content") != kept.plain:
        problems.append(f"wrote {kept.plain!r}, read {message.get('content')!r}")
    if kept.metadata is not None and message.get("metadata") != kept.metadata:
        problems.append(f"wrote metadata {kept.metadata!r}, read {message.get('metadata')!r}")
    return problems


def list_problems(chat: OpenChat, listed: Sequence[Json]) -> list[str]:
    """Check a list of a chat: complete, in the order of writing, nothing twice, nothing deleted."""
    ids = [str(message.get("id")) for message in listed]
    problems = []
    if len(set(ids)) != len(ids):
        problems.append("a list names a message twice")
    if resurrected := {str(gone) for gone in chat.deleted} & set(ids):
        problems.append(f"deleted messages are listed: {', '.join(sorted(resurrected))}")
    known = [str(kept.id) for kept in chat.kept]
    if missing := [one for one in known if one not in set(ids)]:
        problems.append(f"a list lacks {len(missing)} messages, first {missing[0]}")
    elif [one for one in ids if one in set(known)] != known:
        problems.append("a list is not in the order of writing")
    return problems

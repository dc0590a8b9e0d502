"""The journal: every write a client got an answer for, in an append-only file.

It is what the proof believes. A line is written after the answer was read and before the client
goes on, and nothing of it stays in memory, so the demo can run for hours.
"""

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Operation = Literal["chat", "create", "reply", "edit", "delete"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One write of a client.

    Attributes:
        wire: The format the client spoke: 1, 2, or 0 for plain SQL beside the API.
        acknowledged: False when the answer was lost or said "failed": the write may or may not
            have happened, and the proof accepts both, as long as the two tables agree.
        plain: The text a V1 client must see from now on (None for a delete).
        blocks: The blocks a V2 client must see, None when no V2 client wrote the message.
        backend: What the answer's header named, None without an answer.
    """

    operation: Operation
    message_id: uuid.UUID
    chat_id: uuid.UUID
    wire: int
    acknowledged: bool = True
    plain: str | None = None
    blocks: list[dict[str, object]] | None = field(default=None)
    backend: int | None = None


class Journal:
    """Append entries to a file; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self.acknowledged = 0
        self.unknown = 0

    def write(self, entry: Entry) -> None:
        """Append one entry. Each line has its number: the order within one message is binding."""
        with self._lock:
            number = self.acknowledged + self.unknown + 1
            line = {
                "n": number,
                "op": entry.operation,
                "id": str(entry.message_id),
                "chat_id": str(entry.chat_id),
                "wire": entry.wire,
                "ok": entry.acknowledged,
                "plain": entry.plain,
                "blocks": entry.blocks,
                "backend": entry.backend,
                "at": round(time.time(), 6),
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            if entry.acknowledged:
                self.acknowledged += 1
            else:
                self.unknown += 1

    def close(self) -> None:
        """Flush and close the file; a second call does nothing."""
        with self._lock:
            self._file.close()

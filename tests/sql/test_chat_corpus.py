"""The dialogues of chatterbot-corpus, 28 languages, through the SQL converters and back."""

import json
import uuid
from typing import Any

import psycopg

from tests import corpora
from tests.sql.test_chat_pair import CONVERT, PAIR, one

Connection = psycopg.Connection[tuple[Any, ...]]


def rows() -> list[dict[str, Any]]:
    """Return one V1 message for each thing said, and the V2 message that says it in a block."""
    said = [(language, text) for language, texts in corpora.dialogues().items() for text in texts]
    found: list[dict[str, Any]] = []
    for n, (language, text) in enumerate(said):
        shared = {
            "id": str(uuid.UUID(int=n)),
            "chat_id": str(uuid.UUID(int=0)),
            "user_id": None,
            "role": "user" if n % 2 == 0 else "assistant",
            "created_at": "2026-05-01T10:00:00.123456+00:00",
            "updated_at": None,
        }
        v1 = shared | {"content": text, "metadata": {"language": language}, "sequence_number": n}
        v2 = shared | {
            "seq": n,
            "parent_id": None,
            "status": "complete",
            "content": [{"type": "text", "text": text}] if text else [],
            "metadata": {"legacy": {"language": language}},
            "model": None,
            "usage": None,
            "finish_reason": None,
            "error": None,
            "schema_version": 2,
            "edited_at": None,
            "deleted_at": None,
        }
        found.append({"n": n, "v1": v1, "v2": v2})
    return found


def test_dialogues_in_every_language_come_back_to_the_byte(db: Connection) -> None:
    db.execute(PAIR)
    given = rows()
    assert len(given) == 19_597
    wanted = [[row["v2"], row["v1"], row["v2"]] for row in given]
    converted = one(db, CONVERT, json.dumps(given))
    wrong = [pair for pair in zip(converted, wanted, strict=True) if pair[0] != pair[1]]
    assert wrong == [], wrong[0]

"""What a client may rely on, checked on every answer. Pure: answers in, broken promises out."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Block = dict[str, object]
Json = Mapping[str, object]

# The V1 message, name by name, as it was on the wire before anything was migrated. One key more is
# as bad as one less: strict clients (generated models, `additionalProperties: false`) refuse both.
V1_KEYS = frozenset(
    {
        "id",
        "chat_id",
        "role",
        "content",
        "metadata",
        "created_at",
        "updated_at",
        "sequence_number",
    }
)
V1_ROLES = frozenset({"user", "assistant", "system"})
V2_KEYS = frozenset(
    {
        "id",
        "chat_id",
        "seq",
        "role",
        "status",
        "content",
        "metadata",
        "schema_version",
        "created_at",
    }
)
V2_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, or the lack of one.

    Attributes:
        status: HTTP status; 0 when no answer came (then `failure` says why).
        backend: What `X-Crossfade-Backend` named.
        sent_s: Wall clock (epoch) when the request left; `received_s` when the answer was whole.
    """

    status: int
    body: object
    headers: Mapping[str, str]
    sent_s: float
    received_s: float
    failure: str | None = None

    @property
    def backend(self) -> int | None:
        """Return the backend that served the request, None when the answer names none."""
        named = self.headers.get("x-crossfade-backend", "")
        return int(named) if named in {"1", "2"} else None

    @property
    def fell_back(self) -> bool:
        """Return whether backend 2 failed first; a write the fence refused does not count."""
        return self.status < 400 and self.headers.get("x-crossfade-reason") == "ERROR"

    @property
    def latency_ms(self) -> float:
        """Return the time from sending to the last byte."""
        return (self.received_s - self.sent_s) * 1000

    @property
    def message(self) -> Json:
        """Return the body as a JSON object; empty when it is something else."""
        return self.body if isinstance(self.body, dict) else {}


def plain_text(blocks: Sequence[Block]) -> str:
    """Return the text a V1 client sees of a V2 message: its text blocks, a blank line between."""
    return "\n\n".join(str(block["text"]) for block in blocks if block.get("type") == "text")


def header_problems(answer: Answer, wire: int) -> list[str]:
    """Check the headers every answer of this wire version must carry."""
    problems = []
    served = answer.headers.get("x-api-version")
    if served != str(wire):
        problems.append(f"X-API-Version is {served!r}, not '{wire}'")
    kind = answer.headers.get("content-type", "")
    wanted = "application/problem+json" if answer.status >= 400 else "application/json"
    if answer.status != 204 and kind.split(";")[0] != wanted:
        problems.append(f"Content-Type is {kind!r}")
    return problems


def v1_problems(message: Json) -> list[str]:
    """Check one V1 message: exactly its keys, the right types, nothing of V2."""
    problems = []
    extra, missing = sorted(set(message) - V1_KEYS), sorted(V1_KEYS - set(message))
    if extra:
        problems.append(f"V1 message has keys it never had: {', '.join(extra)}")
    if missing:
        problems.append(f"V1 message lacks {', '.join(missing)}")
    if not isinstance(message.get("content"), str):
        problems.append(f"content is {type(message.get('content')).__name__}, not text")
    if message.get("role") not in V1_ROLES:
        problems.append(f"role is {message.get('role')!r}")
    metadata = message.get("metadata")
    if not isinstance(metadata, dict):
        problems.append("metadata is not an object")
    elif "_crossfade" in metadata:
        problems.append("metadata shows _crossfade")
    number = message.get("sequence_number")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        problems.append(f"sequence_number is {number!r}")
    return problems + _identity_problems(message, ("created_at", "updated_at"))


def v2_problems(message: Json) -> list[str]:
    """Check one V2 message: the keys it must have and their types."""
    problems = []
    missing = sorted(V2_KEYS - set(message))
    if missing:
        problems.append(f"V2 message lacks {', '.join(missing)}")
    content = message.get("content")
    if not isinstance(content, list) or not all(
        isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
    ):
        problems.append("content is not an array of blocks")
    if message.get("role") not in V2_ROLES:
        problems.append(f"role is {message.get('role')!r}")
    if message.get("schema_version") != 2:
        problems.append(f"schema_version is {message.get('schema_version')!r}")
    return problems + _identity_problems(message, ("created_at",))


def _identity_problems(message: Json, times: tuple[str, ...]) -> list[str]:
    problems = [
        f"{name} is {message.get(name)!r}"
        for name in ("id", "chat_id")
        if not _is_uuid(message.get(name))
    ]
    for name in times:
        value = message.get(name)
        optional = name == "updated_at"
        if not (value is None and optional) and not (
            isinstance(value, str) and TIMESTAMP.match(value)
        ):
            problems.append(f"{name} is {value!r}")
    return problems


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def blocks_of(message: Json) -> list[Block]:
    """Return the blocks of a V2 message; empty when its content is something else."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def block_problems(wrote: Sequence[Block], got: Sequence[Block]) -> list[str]:
    """Check that every block came back with all it was written with; the server may add keys."""
    if len(wrote) != len(got):
        return [f"wrote {len(wrote)} blocks, read {len(got)}"]
    return [
        f"block {index} ({block.get('type')}) differs in {name}"
        for index, (block, answer) in enumerate(zip(wrote, got, strict=True))
        for name, value in block.items()
        if answer.get(name) != value
    ]

"""Recorded answers of models, out of the archives of tests/recorded.txt."""

import gzip
import json
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

ARCHIVES = Path(sys.prefix) / "recorded"

#: What stands in every recording of interest: all others are other APIs, or pictures.
_MARKS = (
    b"completion",
    b"message_start",
    b"response.created",
    b"stop_reason",
    b"!!binary",
    b"output",
)


@cache
def answers() -> list[Json]:
    """Return each recorded answer with its provider's host, its dialect and form, and its text."""
    archives = sorted(ARCHIVES.glob("*.tar.gz"))
    assert archives, "the recordings are not there: make install"
    found = [answer for archive in archives for answer in _answers_of(archive)]
    return [answer for answer in found if answer["kind"] is not None]


def _answers_of(archive: Path) -> Iterator[Json]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if "cassettes" not in member.name or not member.name.endswith((".yaml", ".yaml.gz")):
                continue
            file = tar.extractfile(member)
            content = file.read() if file is not None else b""
            if member.name.endswith(".gz"):
                content = gzip.decompress(content)
            if not any(mark in content for mark in _MARKS):
                continue
            for host, text in _exchanges(yaml.load(content, Loader=yaml.CSafeLoader), member.name):
                yield {
                    "src": Path(member.name).name,
                    "host": host,
                    "kind": _kind(text),
                    "text": text,
                }


def _exchanges(cassette: Json, name: str) -> Iterator[tuple[str, str]]:
    """Yield host and answer; cassettes come in two layouts."""
    if "interactions" in cassette:
        for one in cassette["interactions"]:
            yield one["request"]["uri"].split("/")[2], _text(one["response"])
    else:
        host = "api.anthropic.com" if "anthropic" in name else "api.openai.com"
        for response in cassette.get("responses", []):
            yield host, _text(response)


def _text(response: Json) -> str:
    if "parsed_body" in response:
        return json.dumps(response["parsed_body"])
    body = response.get("body") or ""
    content = body.get("string") if isinstance(body, dict) else body
    if isinstance(content, bytes):
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return content.decode("utf-8", "replace")
    return content or ""


def _kind(text: str) -> str | None:
    """Tell dialect and form by what a provider's documents say; None for all else."""
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except ValueError:
            return None
        if "choices" in value and value.get("object") in (None, "chat.completion"):
            return "chat whole"
        if value.get("object") == "response":
            return "responses whole"
        return "anthropic whole" if value.get("type") == "message" else None
    if not text.lstrip().startswith(("data:", "event:", ":")):
        return None
    if '"chat.completion.chunk"' in text:
        return "chat stream"
    if '"response.' in text:
        return "responses stream"
    return "anthropic stream" if '"message_start"' in text else None

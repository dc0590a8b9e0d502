"""The data sets of tests/corpora.txt, and the demo's, as lists of plain values.

Read as files of a distribution: importing the packages would need what we did not install.
"""

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from crossfade.demo import history

Json = dict[str, Any]


def _folder(package: str, path: str) -> Path:
    folder = Path(str(distribution(package).locate_file(path)))
    assert folder.is_dir(), f"{package} is not installed: make install"
    return folder


@cache
def tools() -> list[Json]:
    """Return the 8,726 tool definitions of BFCL, as they stand beside its questions."""
    found: list[Json] = []
    for file in sorted(_folder("bfcl-eval", "bfcl_eval/data").glob("*.json")):
        # One file is one object over many lines and holds no definitions.
        lines = [line for line in file.read_text().splitlines() if '"function"' in line]
        found += [tool for line in lines for tool in json.loads(line).get("function", [])]
    return found


@cache
def dialogues() -> dict[str, list[str]]:
    """Return what is said in the dialogues of chatterbot-corpus, by language."""
    found: dict[str, list[str]] = {}
    for file in sorted(_folder("chatterbot-corpus", "chatterbot_corpus/data").rglob("*.yml")):
        # BaseLoader: what looks like a number or a date is still something that was said.
        content = yaml.load(file.read_text(), Loader=yaml.CBaseLoader)
        said = found.setdefault(file.parent.name, [])
        said += list(_texts(content["conversations"]))
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)


def histories(count: int) -> list[list[Json]]:
    """Return chats of chitchat-dataset, as V1 rows, in which messages have the same time."""
    found: list[list[Json]] = []
    for chat in history.chats(history.read_dataset()):
        messages = chat.messages
        times = [message.created_at for message in messages]
        if all(one != two for one, two in pairwise(times)):
            continue
        found.append(
            [
                {
                    "id": str(message.id),
                    "role": message.role,
                    "content": message.content,
                    "metadata": {},
                    "created_at": message.created_at,
                    "sequence_number": message.sequence_number,
                }
                for message in messages
            ]
        )
        if len(found) == count:
            break
    return found


@cache
def results() -> list[object]:
    """Return what the tools of agentdojo work on: mails, events, files, transactions, messages."""
    found: list[object] = []
    for file in sorted(_folder("agentdojo", "agentdojo/data/suites").rglob("*.yaml")):
        content = yaml.load(file.read_text(), Loader=_Loader)
        found += _records(content)
    return found


class _Loader(yaml.CSafeLoader):
    """YAML whose own tags stand for text."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, node: str(node.value))


def _records(value: object) -> Iterator[object]:
    """Yield each list and object on the way down: a tool may answer any of them."""
    plain = json.loads(json.dumps(value, default=_text_of))
    yield plain
    children = plain.values() if isinstance(plain, dict) else plain
    for child in children if isinstance(plain, dict | list) else ():
        if isinstance(child, dict | list):
            yield from _records(child)


def _text_of(value: object) -> str:
    assert isinstance(value, date), type(value)
    return value.isoformat()

"""What the demo's clients accept as an answer, and what they call a broken promise."""

import pytest

from crossfade.demo.answers import (
    Answer,
    block_problems,
    header_problems,
    plain_text,
    v1_problems,
    v2_problems,
)

V1: dict[str, object] = {
    "id": "7f1b0f6e-5b0e-4e0c-9a55-0d3a1f6f8d11",
    "chat_id": "0b8f6c2e-9f3f-4a0b-8d6c-2a6f0e1d2c3b",
    "role": "user",
    "content": "Hello",
    "metadata": {},
    "created_at": "2026-05-01T10:00:00.123456+00:00",
    "updated_at": None,
    "sequence_number": 7,
}
V2: dict[str, object] = {
    "id": V1["id"],
    "chat_id": V1["chat_id"],
    "seq": 7,
    "role": "tool",
    "status": "complete",
    "content": [{"type": "text", "text": "Hello"}],
    "metadata": {},
    "schema_version": 2,
    "created_at": "2026-05-01T10:00:00Z",
}


def _answer(status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {}, named, 0.0, 0.0)


def test_the_messages_of_both_versions_are_accepted() -> None:
    assert v1_problems(V1) == []
    assert v2_problems(V2) == []


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 7},
        {"schema_version": 2},
        {"user_id": V1["id"]},
        {"content": [{"type": "text", "text": "Hello"}]},
        {"content": None},
        {"role": "tool"},
        {"metadata": None},
        {"metadata": {"_crossfade": {}}},
        {"created_at": "2026-05-01 10:00:00+00"},
        {"created_at": None},
        {"sequence_number": "7"},
        {"sequence_number": True},
        {"id": "7F1B0F6E-5B0E-4E0C-9A55-0D3A1F6F8D11"},
    ],
)
def test_anything_new_in_a_v1_message_is_a_broken_promise(change: dict[str, object]) -> None:
    assert v1_problems({**V1, **change}) != []


@pytest.mark.parametrize("name", sorted(V1))
def test_a_missing_key_of_a_v1_message_is_a_broken_promise(name: str) -> None:
    assert v1_problems({key: value for key, value in V1.items() if key != name}) != []


@pytest.mark.parametrize(
    "change",
    [{"content": "Hello"}, {"content": [{"text": "x"}]}, {"role": "robot"}, {"schema_version": 1}],
)
def test_a_v2_message_must_be_one(change: dict[str, object]) -> None:
    assert v2_problems({**V2, **change}) != []


def test_headers_name_the_version_that_was_served() -> None:
    good = _answer(x_api_version="1", content_type="application/json; charset=utf-8")
    assert header_problems(good, 1) == []
    assert header_problems(good, 2) != []
    assert header_problems(_answer(x_api_version="1", content_type="text/html"), 1) != []
    assert header_problems(_answer(204, x_api_version="1"), 1) == []


def test_the_backend_is_what_the_header_names() -> None:
    assert _answer(x_crossfade_backend="2").backend == 2
    assert _answer(x_crossfade_backend="two").backend is None
    assert _answer().backend is None


def test_plain_text_is_the_text_blocks_with_a_blank_line_between() -> None:
    blocks: list[dict[str, object]] = [
        {"type": "text", "text": "One"},
        {"type": "tool_call", "name": "x"},
        {"type": "text", "text": "two"},
    ]
    assert plain_text(blocks) == "One\n\ntwo"
    assert plain_text([]) == ""


def test_blocks_may_gain_keys_but_not_lose_or_change_any() -> None:
    wrote: list[dict[str, object]] = [{"type": "text", "text": "One"}]
    assert block_problems(wrote, [{"type": "text", "text": "One", "id": "b1"}]) == []
    assert block_problems(wrote, [{"type": "text", "text": "two"}]) != []
    assert block_problems(wrote, []) != []

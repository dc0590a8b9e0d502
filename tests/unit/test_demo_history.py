"""The history the demo loads is derived from the data set alone, and always the same."""

import uuid

from crossfade.demo.history import RawConversation, chats, returning_senders, user_of


def _conversation(*turns: tuple[str, ...]) -> RawConversation:
    return {
        "messages": [
            [
                {"text": text, "timestamp": "2018-05-02T19:38:15Z", "sender": sender}
                for text in texts
            ]
            for sender, *texts in turns
        ]
    }


DATA = {
    "one": _conversation(("ann", "Hello", ""), ("bob", "Hi")),
    "two": _conversation(("bob", "Again?")),
}


def test_the_first_to_speak_owns_the_chat_and_is_the_user() -> None:
    first, second = chats(DATA)
    assert [message.role for message in first.messages] == ["user", "user", "assistant"]
    assert {message.user_id for message in first.messages} == {user_of("ann")}
    assert second.user_id == user_of("bob")


def test_numbers_run_over_all_chats_because_times_are_equal() -> None:
    numbers = [message.sequence_number for chat in chats(DATA) for message in chat.messages]
    assert numbers == [1, 2, 3, 4]


def test_ids_are_the_same_in_every_run_and_never_twice() -> None:
    ids = [message.id for chat in chats(DATA) for message in chat.messages]
    assert ids == [message.id for chat in chats(DATA) for message in chat.messages]
    assert len(set(ids)) == 4


def test_empty_texts_stay_and_give_the_chat_a_title_all_the_same() -> None:
    (chat,) = chats({"x": _conversation(("ann", ""))})
    assert chat.messages[0].content == ""
    assert chat.title


def test_rows_cuts_the_last_chat_short() -> None:
    assert [len(chat.messages) for chat in chats(DATA, rows=2)] == [2]
    assert [len(chat.messages) for chat in chats(DATA, rows=3)] == [3]
    assert [len(chat.messages) for chat in chats(DATA, rows=99)] == [3, 1]


def test_an_account_stands_for_its_sender_in_chats_it_opened() -> None:
    account = uuid.uuid4()
    first, second = chats(DATA, owners={"ann": account})
    assert {message.user_id for message in first.messages} == {account}
    assert second.user_id == user_of("bob")


def test_returning_senders_have_one_own_chat_of_a_handy_length() -> None:
    data = {
        "short": _conversation(("ann", "a")),
        "good": _conversation(("bob", *"abcdefghijklmnopq")),
        "long": _conversation(("cat", *"x" * 200)),
    }
    assert returning_senders(data, count=5) == ("bob",)
    assert returning_senders(data, count=5, rows=3) == ()

"""Feature adoption: what record_exposures counts, refuses and purges."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.sql.conftest import Connect
from tests.sql.control import Connection, call, one, refused

FLAG = "enable_caching"
RECENT = """
select sum(exposures) from crossfade.flag_exposures where minute > now() - interval '1 day'
"""
OLD = "select count(*) from crossfade.flag_exposures where minute < now() - interval '30 days'"


def exposure(variant: str = "on", **fields: Any) -> dict[str, Any]:
    return {"flag": FLAG, "variant": variant, "reason": "SPLIT", **fields}


def record(db: Connection, *entries: dict[str, Any]) -> Any:
    return call(db, "record_exposures", list(entries))


@pytest.fixture
def scratched(scratch: Connection) -> Connection:
    return scratch


def test_exposures_are_counted_by_flag_variant_and_reason(scratched: Connection) -> None:
    version = call(scratched, "flags_version")
    entries = [
        exposure(),
        exposure(count=3),
        exposure("off"),
        exposure("off", reason="DISABLED"),
        exposure(flag="enable_memory_system"),
    ]
    answer = record(scratched, *entries)
    assert answer == {"recorded": 7, "ignored": 0, "flags_version": version}
    record(scratched, exposure())
    rows = scratched.execute(
        "select flag, variant, reason, sum(exposures) from crossfade.flag_exposures"
        " group by 1, 2, 3 order by 1, 2, 3"
    ).fetchall()
    assert rows == [
        (FLAG, "off", "DISABLED", 1),
        (FLAG, "off", "SPLIT", 1),
        (FLAG, "on", "SPLIT", 5),
        ("enable_memory_system", "on", "SPLIT", 1),
    ]


def test_counting_is_no_change_of_the_flags(scratched: Connection) -> None:
    version = call(scratched, "flags_version")
    record(scratched, exposure())
    assert call(scratched, "flags_version") == version


def test_a_flag_that_does_not_exist_is_ignored(scratched: Connection) -> None:
    answer = record(scratched, exposure(flag="nowhere", count=5), exposure())
    assert (answer["recorded"], answer["ignored"]) == (1, 5)
    assert one(scratched, "select count(*) from crossfade.flag_exposures") == 1


def test_an_empty_batch_counts_nothing(scratched: Connection) -> None:
    assert record(scratched)["recorded"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flag", 1), ("flag", None), ("variant", "maybe"), ("variant", None),
        ("reason", "KILL_SWITCH"), ("reason", None),
        ("count", 0), ("count", -1), ("count", 1.5), ("count", "1"), ("count", 10**9),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named_and_nothing_is_counted(
    scratched: Connection, field: str, value: Any
) -> None:
    with refused("CF012", 400) as refusal:
        record(scratched, exposure(), exposure(**{field: value}))
    assert (refusal.detail["entry"], refusal.detail["field"]) == (1, field)
    assert one(scratched, "select count(*) from crossfade.flag_exposures") == 0


@pytest.mark.parametrize("batch", [{}, None, [1]])
def test_a_batch_that_is_no_list_of_objects_is_refused(
    scratched: Connection, batch: object
) -> None:
    with refused("CF012", 400):
        call(scratched, "record_exposures", batch)


def test_old_minutes_go_and_young_ones_stay(scratched: Connection) -> None:
    record(scratched, exposure())
    for days in (29, 31):
        scratched.execute(
            "insert into crossfade.flag_exposures"
            " select flag, date_trunc('minute', now()) - make_interval(days => %s), variant,"
            " reason, exposures from crossfade.flag_exposures"
            " where minute > now() - interval '1 day'",
            [days],
        )
    record(scratched, exposure())
    assert one(scratched, RECENT) == 2
    assert one(scratched, OLD) == 0
    month = (
        "select count(*) from crossfade.flag_exposures where minute < now() - interval '28 days'"
    )
    assert one(scratched, month) == 1


def test_the_purge_is_bounded(scratched: Connection) -> None:
    scratched.execute(
        "insert into crossfade.flag_exposures select %s, now() - interval '40 days'"
        " - i * interval '1 minute', 'on', 'SPLIT', 1 from generate_series(1, 1500) i",
        [FLAG],
    )
    record(scratched, exposure())
    assert one(scratched, "select count(*) from crossfade.flag_exposures") == 501
    record(scratched, exposure())
    assert one(scratched, "select count(*) from crossfade.flag_exposures") <= 2


def test_callers_at_once_lose_nothing_and_never_deadlock(db: Connection, connect: Connect) -> None:
    db.execute(
        "insert into crossfade.flag_exposures select %s, now() - interval '40 days'"
        " - i * interval '1 minute', 'on', 'SPLIT', 1 from generate_series(1, 3000) i",
        [FLAG],
    )
    entries = [exposure(), exposure("off"), exposure(flag="enable_memory_system")]

    def work(connection: Connection, turn: int) -> None:
        for _ in range(20):
            record(connection, *(entries if turn % 2 else entries[::-1]))

    threads = [threading.Thread(target=work, args=(connect(), turn)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(db, RECENT) == 4 * 20 * 3
    assert one(db, OLD) == 0

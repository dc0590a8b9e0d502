"""``pair check``: how a sample is spread, and how a failure is explained."""

from crossfade.pairs.check import STRETCHES, check_pair, explain
from crossfade.pairs.model import ConversionCheck, Violation
from crossfade.testing import FakeGateway


def checks_of(fake: FakeGateway) -> list[tuple[object, object]]:
    asked = zip(fake.calls, fake.given, strict=True)
    return [(given[2], given[3]) for name, given in asked if name == "check_conversion"]


def test_a_sample_is_short_stretches_from_all_over_the_table() -> None:
    fake = FakeGateway()
    fake.keys = tuple({"id": n * 1000} for n in range(1, STRETCHES))
    fake.checks.extend(
        ConversionCheck(10, last_key={"id": 10}, done=False, rows_total=20_000)
        for _ in range(STRETCHES)
    )
    report = check_pair(fake, "notes", sides=(1,), sample_rows=200)
    assert report.rows_checked == 200
    asked = checks_of(fake)
    assert asked[0] == (None, 10)
    assert asked[1:] == [(key, 10) for key in fake.keys]


def test_a_sample_of_a_small_table_is_the_table() -> None:
    fake = FakeGateway()
    fake.checks.append(ConversionCheck(5, last_key={"id": 5}, done=False, rows_total=8))
    fake.checks.append(ConversionCheck(3, last_key=None, done=True, rows_total=8))
    assert check_pair(fake, "notes", sides=(1,), sample_rows=100).rows_checked == 8
    assert checks_of(fake) == [(None, 5), ({"id": 5}, 95)]


def test_a_sample_that_finds_the_end_at_once_stops() -> None:
    fake = FakeGateway()
    fake.checks.append(ConversionCheck(2))
    assert check_pair(fake, "notes", sides=(1,), sample_rows=40).rows_checked == 2


def test_a_failure_is_explained_by_row_and_column() -> None:
    changed = Violation({"id": 7}, 1, ("body",), stored={"body": "a"}, converted={"body": "A"})
    assert explain(changed) == [
        'row {"id": 7} breaks law 1: V1 -> V2 -> V1 must give the same row',
        '  body: stored "a", came back "A"',
    ]
    raised = Violation({"id": 8}, 5, error="22P02: invalid input")
    assert explain(raised)[1] == "  it raised 22P02: invalid input"
    refused = Violation({"id": 9}, 7, ("total_fits",), converted={"id": 9, "note": "x" * 500})
    assert explain(refused)[1] == "  refused by: total_fits"
    assert len(explain(refused)[2]) < 250


def test_violations_are_counted_by_law_and_rows_without_counterpart_apart() -> None:
    fake = FakeGateway()
    bad = tuple(Violation({"id": n}, 1) for n in range(100))
    fake.checks.append(
        ConversionCheck(
            1000, bad, {"id": 1000}, done=False, violated={1: 700, 3: 4}, no_counterpart=9
        )
    )
    fake.checks.append(ConversionCheck(3, bad[:1], no_counterpart=1))
    report = check_pair(fake, "notes", sides=(1,), keep=2)
    assert (report.count, report.violated) == (705, {1: 701, 3: 4})
    assert (report.no_counterpart, len(report.violations), report.is_clean) == (10, 2, False)


def test_an_edit_that_breaks_a_law_is_shown() -> None:
    lost = Violation(
        {"id": 7}, 4, ("owner",), stored={"owner": "Ann"}, converted={}, edit={"note": "x"}
    )
    assert explain(lost) == [
        'row {"id": 7} breaks law 4: what an edit did not touch must survive',
        '  when it is edited to {"note": "x"}',
        '  owner: was "Ann", is lost',
    ]
    raised = Violation({"id": 7}, 6, error="the result is another one")
    assert explain(raised)[1] == "  the result is another one"

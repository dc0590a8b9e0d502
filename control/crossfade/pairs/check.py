"""Describe a pair for registration, and prove its converters on live rows."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from crossfade.pairs.model import ConversionCheck, Violation

CLIENT_POLICY: Final = '"crossfade clients"'
"""The policy of client_policy, quoted."""

if TYPE_CHECKING:
    from crossfade.pairs.port import Pairs


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """How far a conversion check is. ``rows_total`` is an estimate."""

    side: int
    rows_checked: int
    rows_total: int | None
    violations: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of a conversion check.

    Attributes:
        count: violations, one for each row and law it breaks; ``violated`` counts them by law.
        violations: at most ``keep`` of them.
        no_counterpart: rows of which the converter makes none.
    """

    rows_checked: int
    count: int
    violations: tuple[Violation, ...]
    violated: Mapping[int, int] = field(default_factory=dict)
    no_counterpart: int = 0

    @property
    def is_clean(self) -> bool:
        """True when every row keeps the laws."""
        return self.count == 0


def check_pair(
    gateway: "Pairs",
    pair: str,
    *,
    sides: tuple[int, ...] = (1, 2),
    batch_rows: int = 1000,
    sample_rows: int | None = None,
    keep: int = 100,
    on_progress: Callable[[CheckProgress], None] | None = None,
) -> CheckReport:
    """Prove the laws on the rows of both tables, in batches that only read.

    Args:
        gateway: where the rows are.
        pair: name of the pair.
        sides: which tables to read, 1 and 2.
        batch_rows: rows per request.
        sample_rows: rows per side, in short stretches all over the table; None reads all.
        keep: violations to keep in the report, so that memory stays flat.
        on_progress: called after every batch.
    """
    checked, alone, kept = 0, 0, list[Violation]()
    violated = Counter[int]()
    for side in sides:
        on_side = 0
        parts = (
            _whole(gateway, pair, side, batch_rows)
            if sample_rows is None
            else _sample(gateway, pair, side, sample_rows)
        )
        for part in parts:
            on_side += part.rows_checked
            violated.update(part.by_law)
            alone += part.no_counterpart
            kept.extend(part.violations[: max(0, keep - len(kept))])
            if on_progress:
                on_progress(CheckProgress(side, on_side, part.rows_total, violated.total()))
        checked += on_side
    by_law = dict(sorted(violated.items()))
    return CheckReport(checked, violated.total(), tuple(kept), by_law, alone)


def _whole(gateway: "Pairs", pair: str, side: int, rows: int) -> Iterator[ConversionCheck]:
    after, done = None, False
    while not done:
        part = gateway.check_conversion(pair, side=side, after=after, max_rows=rows)
        # A server that never says "done" must not make us loop: no rows is the end, too.
        done = part.done or part.rows_checked == 0 or part.last_key is None
        after = part.last_key
        yield part


STRETCHES: Final = 20
"""A sample is so many stretches of consecutive rows, the first one at the table's beginning."""


def _sample(gateway: "Pairs", pair: str, side: int, rows: int) -> Iterator[ConversionCheck]:
    size = -(-rows // STRETCHES)
    first = gateway.check_conversion(pair, side=side, after=None, max_rows=min(rows, size))
    yield first
    left = rows - first.rows_checked
    if first.done or left <= 0:
        return
    if first.rows_total is not None and first.rows_total <= rows:
        after, done = first.last_key, False
        while not done and left > 0:  # the sample is the table
            part = gateway.check_conversion(pair, side=side, after=after, max_rows=min(1000, left))
            done, after, left = part.done or not part.rows_checked, part.last_key, left - 1000
            yield part
        return
    for key in gateway.sample_keys(pair, side=side, keys=STRETCHES - 1):
        if left <= 0:
            return
        part = gateway.check_conversion(pair, side=side, after=key, max_rows=min(size, left))
        left -= part.rows_checked
        yield part


LAWS: Final = {
    1: "V1 -> V2 -> V1 must give the same row",
    2: "V2 -> V1 -> V2 must give the same row",
    3: "an edit must win, and come back as it was made",
    4: "what an edit did not touch must survive",
    5: "a converter must never raise",
    6: "the same row must give the same result, in every session and at any time",
    7: "what a converter makes must keep the constraints of its table",
}


def client_policy(pair: str, v2_table: str) -> str:
    """Return SQL of the policy that keeps signed-in users from V2 until it serves them.

    As one subselect it is asked once a statement. The database knows the text
    (``client_policy_text``): it is no difference between the two tables' rights.
    """
    return (
        f"-- Holds signed-in users to the version that serves them (pair {pair}). When version 2\n"
        f"-- serves everybody for good: drop policy {CLIENT_POLICY} on {v2_table};\n"
        f"create policy {CLIENT_POLICY} on {v2_table} as restrictive for all to authenticated\n"
        f"using ((select crossfade.my_backend('{pair}') = 2));"
    )


def explain(violation: Violation) -> list[str]:
    """Return lines for people: the row, the law, and each column with both values."""
    law = LAWS.get(violation.law, "unknown law")
    lines = [f"row {_short(dict(violation.key))} breaks law {violation.law}: {law}"]
    if violation.edit:
        lines.append(f"  when it is edited to {_short(dict(violation.edit))}")
    if violation.error:
        lines.append(
            f"  it raised {violation.error}" if violation.law == 5 else f"  {violation.error}"
        )
    elif violation.law == 4:
        lines += [f"  {name}: was {_short(violation.stored.get(name))}, is lost"
                  for name in violation.columns]  # fmt: skip
    elif violation.law == 7:
        lines.append(f"  refused by: {', '.join(violation.columns)}")
        lines.append(f"  the row would be {_short(violation.converted)}")
    else:
        for column in violation.columns:
            stored = _short(violation.stored.get(column))
            lines.append(
                f"  {column}: stored {stored}, came back {_short(violation.converted.get(column))}"
            )
    return lines


def _short(value: object, limit: int = 200) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]}..."

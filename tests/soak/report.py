"""Results as text. Pure."""

from __future__ import annotations

from .driver import Result
from .journal import Transaction
from .rows import Key

_SHOWN = (
    "rounds", "statements", "commits", "rollbacks", "deadlocks", "serialization failures",
    "lock timeouts", "retries", "kills", "restarts", "lost connections", "mirror failures",
    "repaired", "backfill batches", "verify batches", "stage changes", "rows compared",
)  # fmt: skip


def summary(result: Result) -> str:
    """Return the counts, one a line, lost and wrong at the end."""
    counts = result.counts
    names = [*_SHOWN, *sorted(name for name in counts if name not in _SHOWN)]
    lines = [f"{name:24} {counts[name]}" for name in names]
    lines.append(f"{'lost':24} {len(result.verdict.lost)}")
    lines.append(f"{'wrong':24} {len(result.verdict.wrong)}")
    lines.append(f"{'other problems':24} {len(result.problems)}")
    return "\n".join(lines)


def explain(result: Result) -> str:
    """Return what went wrong and the transactions that touched the first keys concerned."""
    options = result.options
    lines = [
        "",
        f"FAILED: --seed {options.seed} --rounds 1 --sessions {options.sessions} "
        f"--transactions {options.transactions}",
        result.note,
        *result.problems[:10],
    ]
    broken = [*result.verdict.lost.items(), *result.verdict.wrong.items()]
    lines += [f"{key}: {reason}" for key, reason in broken[:10]]
    for key, _ in broken[:2]:
        lines += ["", f"Committed transactions that wrote {key}, in commit order:"]
        lines += [_script(t) for t in _writers(result, key)[-8:]]
    return "\n".join(lines)


def _writers(result: Result, key: Key) -> list[Transaction]:
    found = [
        t
        for t in result.transactions
        if t.committed_at is not None
        and t.session != 0
        and any(key in (e.key, e.moved_from) or e.key is None for e in t.effects)
    ]
    return sorted(found, key=lambda t: str(t.committed_at))


def _script(transaction: Transaction) -> str:
    head = f"-- {transaction.token} of session {transaction.session}, {transaction.committed_at}"
    return "\n".join([head, *(text[:600] + ";" for text in transaction.script)])

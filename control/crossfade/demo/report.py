"""The report: what was promised, what came out, and what a broken promise would mean."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from crossfade.demo.proof import Proof


@dataclass(frozen=True, slots=True)
class TimedStep:
    """One step of the story.

    Attributes:
        started_s: Seconds since the demo began.
    """

    name: str
    started_s: float
    duration_s: float
    outcome: str


@dataclass(slots=True)
class StoryFigures:
    """What the story measured on its way; None means it did not come that far."""

    history_rows: int | None = None
    converters_checked: int | None = None
    converter_violations: int | None = None
    backfill_rows_per_s: float | None = None
    verify_rows_per_s: float | None = None
    verify_mismatches: int | None = None
    races: int = 0
    zombies: int = 0
    shadow_compared: int | None = None
    shadow_mismatched: int | None = None
    auto_rollback_seconds: float | None = None
    auto_rollback_level: str | None = None
    auto_rollback_reason: str | None = None
    v1_errors_during_fault: int | None = None
    kill_cycles: int = 0
    kill_to_effect_ms_p50: float | None = None
    kill_to_effect_ms_p99: float | None = None
    kill_commit_ms_p50: float | None = None
    stale_isolate_believed: int | None = None
    stale_writes_fenced: int | None = None


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """What the clients counted."""

    requests: int
    requests_per_s: float
    writes_acknowledged: int
    writes_unknown: int
    v1_errors: int
    v2_errors: int
    fallbacks: int
    errors: dict[str, int]
    samples: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: a figure that must be zero (or true), and what it means when it is not."""

    name: str
    value: object
    kept: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the demo says at the end."""

    measured: StoryFigures
    clients: ClientFigures
    proof: Proof | None
    duration_s: float
    steps: Sequence[TimedStep] = ()
    events: Sequence[tuple[float, str]] = ()
    stopped_at: str | None = None
    stopped_because: str | None = None
    kept_in: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def promises(self) -> list[Promise]:
        """Return every promise with its figure."""
        return promises(self)

    @property
    def broken(self) -> list[Promise]:
        """Return the promises that were not kept."""
        return [promise for promise in self.promises if not promise.kept]


def _zero(name: str, value: int | None, meaning: str) -> Promise:
    return Promise(name, value, value == 0, meaning)


def promises(report: Report) -> list[Promise]:
    """Judge the demo. Pure; a figure that was never measured is judged only when it must exist."""
    clients, measured, proof = report.clients, report.measured, report.proof
    judged = []
    if report.stopped_at is not None:
        judged.append(
            Promise("completed", report.stopped_at, False, report.stopped_because or "stopped")
        )
    judged.append(
        _zero(
            "v1_client_errors",
            clients.v1_errors,
            "V1 clients noticed the migration: an error, another shape, or not what they wrote",
        )
    )
    judged.append(
        _zero(
            "zombies",
            measured.zombies,
            "rows deleted while the backfill copied them came back in chat_messages_v2: the"
            " backfill does not lock the rows it copies",
        )
    )
    if measured.converter_violations is not None:
        judged.append(
            _zero(
                "converter_violations",
                measured.converter_violations,
                "rows do not survive the way to the other format and back",
            )
        )
    if measured.shadow_mismatched is not None:
        judged.append(
            _zero(
                "shadow_mismatched",
                measured.shadow_mismatched,
                "backend 2 would have answered reads differently from backend 1",
            )
        )
    return judged + (_proved(proof) if proof is not None else [_unproved()])


def _proved(proof: Proof) -> list[Promise]:
    return [
        _zero(
            "lost",
            proof.count("lost"),
            "acknowledged writes are not in both tables: the mirror or the backfill lost them",
        ),
        _zero("history_changed", proof.count("history"), "rows of the history were changed"),
        _zero(
            "duplicated",
            proof.count("duplicated"),
            "rows exist that nobody was told about, or a message exists twice",
        ),
        _zero(
            "mismatches",
            proof.count("mismatches"),
            "the two tables disagree through the converters: the mirror missed or changed a write",
        ),
        _zero(
            "v2_writes_after_kill",
            proof.count("fenced"),
            "version 2 was written after a kill switch had committed: the fence does not hold",
        ),
    ]


def _unproved() -> Promise:
    return Promise(
        "proved", None, False, "nothing was proved: the story ended before the backfill did"
    )


def as_json(report: Report) -> dict[str, object]:
    """Return the report as plain values, the asked-for names first."""
    proof, measured, clients = report.proof, report.measured, report.clients

    def found(promise: str) -> int | None:
        return None if proof is None else proof.count(promise)

    return {
        "ok": not report.broken,
        "history_rows": measured.history_rows,
        "client_writes_acknowledged": clients.writes_acknowledged,
        "lost": found("lost"),
        "duplicated": found("duplicated"),
        "mismatches": found("mismatches"),
        "history_changed": found("history"),
        "zombies": measured.zombies,
        "v1_client_errors": clients.v1_errors,
        "v2_client_errors": clients.v2_errors,
        "auto_rollback_seconds": measured.auto_rollback_seconds,
        "kill_to_effect_ms_p50": measured.kill_to_effect_ms_p50,
        "kill_to_effect_ms_p99": measured.kill_to_effect_ms_p99,
        "v2_writes_after_kill": found("fenced"),
        "backfill_rows_per_s": measured.backfill_rows_per_s,
        "verify_rows_per_s": measured.verify_rows_per_s,
        "duration_s": report.duration_s,
        "fallbacks": clients.fallbacks,
        "requests": clients.requests,
        "requests_per_s": clients.requests_per_s,
        "direct_v2_writes": None if proof is None else proof.direct_v2_writes,
        "v1_rows": None if proof is None else proof.v1_rows,
        "v2_rows": None if proof is None else proof.v2_rows,
        "measured": asdict(measured),
        "clients": asdict(clients),
        "broken": [asdict(promise) for promise in report.broken],
        "findings": [] if proof is None else _findings(proof),
        "stopped_at": report.stopped_at,
        "stopped_because": report.stopped_because,
        "timeline": [asdict(step) for step in report.steps],
        "events": [{"at_s": at_s, "text": text} for at_s, text in report.events],
        "environment": report.environment,
    }


def _findings(proof: Proof) -> list[dict[str, object]]:
    return [
        {
            "promise": finding.promise,
            "problem": finding.problem,
            "count": finding.count,
            "sample": [str(one) for one in finding.sample],
        }
        for finding in proof.findings
    ]


def write(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")

"""The report for people: figures, promises, and what a broken one means."""

from rich.console import Console
from rich.table import Table

from crossfade.demo.report import Report, as_json

ROWS = (
    ("history_rows", "messages of the history"),
    ("client_writes_acknowledged", "writes acknowledged to clients"),
    ("lost", "of them lost"),
    ("duplicated", "duplicated"),
    ("mismatches", "rows in which the tables disagree"),
    ("history_changed", "rows of the history changed"),
    ("zombies", "deleted rows that came back"),
    ("v1_client_errors", "errors of V1 clients"),
    ("v2_client_errors", "errors of V2 clients"),
    ("requests", "requests"),
    ("requests_per_s", "requests / s"),
    ("fallbacks", "requests that fell back to V1"),
    ("direct_v2_writes", "writes served by backend 2"),
    ("auto_rollback_seconds", "s from the fault to the automatic rollback"),
    ("kill_to_effect_ms_p50", "ms from kill commit to last V2 effect, p50 (0: none after it)"),
    ("kill_to_effect_ms_p99", "ms from kill commit to last V2 effect, p99"),
    ("v2_writes_after_kill", "V2 writes after a kill"),
    ("backfill_rows_per_s", "rows / s backfilled"),
    ("verify_rows_per_s", "rows / s verified"),
    ("duration_s", "s in all"),
)


def show(report: Report, console: Console) -> None:
    """Print the table, then every broken promise with its meaning."""
    values = as_json(report)
    promised = {promise.name: promise.kept for promise in report.promises}
    table = Table(title="crossfade demo", show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, text in ROWS:
        kept = promised.get(name)
        style = "" if kept is None else "green" if kept else "bold red"
        table.add_row(_figure(values[name]), text, style=style)
    console.print(table)
    for promise in report.broken:
        console.print(
            f"[bold red]broken promise[/bold red] {promise.name} = {promise.value}:"
            f" {promise.meaning}",
            highlight=False,
            soft_wrap=True,
        )


def _figure(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

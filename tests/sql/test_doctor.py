"""The checks through the API: each by its digest, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.conftest import ROOT
from tests.sql.control import Connection, call, create_pair, refused

CHECKS = sorted((ROOT / "sql" / "checks").glob("*.sql"))


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_a_check_runs_through_the_api_and_finds_nothing(scratch: Connection, path: Any) -> None:
    scratch.execute("set role service_role")
    try:
        answer = call(scratch, "run_check", path.stem, path.read_bytes().decode())
    finally:
        scratch.execute("reset role")
    assert answer["rows"] == []


def test_a_check_reports_rows_as_it_does_in_psql(scratch: Connection) -> None:
    create_pair(scratch)
    scratch.execute("alter table public.orders_v1 disable trigger crossfade_mirror_insert")
    text = (ROOT / "sql" / "checks" / "triggers.sql").read_bytes().decode()
    rows = call(scratch, "run_check", "triggers", text)["rows"]
    assert [row["problem"] for row in rows] == ["trigger crossfade_mirror_insert is disabled"]
    assert set(rows[0]) == {"check_name", "object", "problem", "hint"}


def test_no_other_text_is_ever_run(scratch: Connection) -> None:
    text = (ROOT / "sql" / "checks" / "drift.sql").read_bytes().decode()
    for name, query in (
        ("drift", text + " "),
        ("drift", text.replace("select", "select ")),
        ("comments", text),
        ("drift", "select 1) x; drop schema crossfade cascade; --"),
        ("nothing", text),
        (None, text),
        ("drift", None),
    ):
        with refused("CF012", 400):
            call(scratch, "run_check", name, query)


def test_diagnose_tells_what_the_caller_has(scratch: Connection) -> None:
    facts = call(scratch, "diagnose")
    assert facts["postgres_version"] // 10000 in range(15, 19)
    assert (facts["has_cron"], facts["has_realtime"], facts["admins"]) == (False, True, 0)
    scratch.execute("set local statement_timeout = '8s'")
    assert call(scratch, "diagnose")["statement_timeout"] == "8s"

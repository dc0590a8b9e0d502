"""Short rounds of the soak; ``make soak`` runs it for minutes."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.sql.conftest import DEBIAN_15, migrated

from .__main__ import make_server, soak
from .driver import Options
from .report import explain, summary

VERSIONS = ["18"] + (["15"] if (DEBIAN_15 / "postgres").exists() else [])
SHORT = Options(seed=0, sessions=6, transactions=60, kills=1.0, crashes=0.7)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_committed_write_is_lost_under_kills_and_crashes(version: str, tmp_path: Path) -> None:
    seeds = [4, random.SystemRandom().randrange(10**6)]
    print(f"seeds {seeds}, PostgreSQL {version}")
    with make_server(tmp_path, version) as server:
        migrated(server)
        for seed in seeds:
            options = Options(seed, SHORT.sessions, SHORT.transactions, SHORT.kills, SHORT.crashes)
            result = soak(server, options, seconds=0, rounds=1)
            print(summary(result))
            assert not result.failed, explain(result)
            assert result.counts["commits"] > 50
    shutil.rmtree(tmp_path, ignore_errors=True)

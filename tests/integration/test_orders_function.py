"""The orders function as apps reach it: two pairs of one function, supabase-js in V1 and in V2.

It is what adopters copy, so nothing of chat is there: other keys, other columns, no package.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from crossfade.local import LocalStack

from .chat_project import Json, eventually
from .deno_scripts import told_by

SCRIPT = Path(__file__).parent / "fixtures" / "orders_client.ts"
PAIRS = ("customers", "orders")
STAGES = ("off", "dualwrite", "shadow", "live", "rampdown")


class Shop:
    """The running project; parents move first."""

    def __init__(self, stack: LocalStack) -> None:
        self.info = stack.info
        self._stage = "off"
        self._http = httpx.Client(timeout=30)
        body = {"email": "shop@example.com", "password": "correct horse battery"}
        key = {"apikey": self.info.publishable_key}
        signed = self._http.post(f"{self.info.api_url}/auth/v1/signup", json=body, headers=key)
        self._token = signed.json()["access_token"]
        names = ("shadow_min_reads", "shadow_match_rate", "stage_bake_s")
        for name in names:
            self.sql("select crossfade.set_setting(%s, '0', 'tests cannot wait')", name)

    def close(self) -> None:
        self._http.close()

    def sql(self, query: str, *values: Any) -> list[Json]:
        with psycopg.connect(
            self.info.admin_db_url, autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def at(self, stage: str) -> None:
        """Go forward to a stage, both pairs at once: they are a group."""
        while STAGES.index(self._stage) < STAGES.index(stage):
            self._stage = STAGES[STAGES.index(self._stage) + 1]
            for pair in PAIRS:
                if self._stage == "shadow":
                    self._run(pair, "start_backfill", "backfill_batch")
                if self._stage == "live":
                    self._run(pair, "start_verify", "verify_batch")
            move = "select crossfade.set_group_stage('customers', %s, 'test', confirm => true)"
            self.sql(move, self._stage)
            for pair in PAIRS if self._stage == "live" else ():
                everybody = "select crossfade.set_cohort(%s, '{\"percentage\": 100}', 'test')"
                self.sql(everybody, pair)
        self._catch_up()

    def _catch_up(self) -> None:
        """Wait until the process of the function has heard of the last change."""
        [row] = self.sql("select crossfade.flags_version() as version")
        url = f"{self.info.api_url}/functions/v1/orders/orders"
        headers = {"apikey": self.info.publishable_key, "Authorization": f"Bearer {self._token}"}

        def knows() -> bool:
            answer = self._http.get(url, headers=headers)
            return int(answer.headers["x-crossfade-flags-version"]) >= int(row["version"])

        eventually(knows, "the function knows the stage")

    def _run(self, pair: str, start: str, batch: str) -> None:
        [row] = self.sql(f"select (crossfade.{start}(%s) -> 'run' ->> 'id')::bigint as id", pair)

        def ended() -> bool:
            query = f"select crossfade.{batch}(%s, 500) ->> 'state' as state"
            return bool(self.sql(query, row["id"])[0]["state"] == "finished")

        eventually(ended, f"{start} of {pair} ends")


@pytest.fixture(scope="module")
def shop(stack_root: Path) -> Iterator[Shop]:
    stack = LocalStack(
        stack_root / "orders-function",
        functions=("orders",),
        pairs=("orders",),
        isolates=1,
        durable=False,
        env={"CROSSFADE_SOFT_AGE_MS": "0"},
    )
    with stack as running:
        shop = Shop(running)
        yield shop
        shop.close()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("stage", ["off", "shadow", "live", "rampdown"])
def test_an_app_of_either_version_tells_the_same_story(
    shop: Shop, stage: str, version: int
) -> None:
    shop.at(stage)
    told = told_by(SCRIPT, shop.info.api_url, shop.info.publishable_key, str(version), stage)
    # What only V2 can hold goes there as soon as the mirror brings it to V1 as well.
    new = stage in ("live", "rampdown") or (version == 2 and stage == "shadow")
    check(told, version, backend="2" if new else "1")


def check(told: Json, version: int, backend: str) -> None:
    """Hold a story against what both versions promise."""
    made, edited = told["made"]["data"], told["edited"]["data"]
    amounts = ("total_cents", "due_cents") if version == 1 else ("total", "due")
    assert told["made"]["status"] == 201
    assert [made[name] for name in amounts] == ([1299, 1289] if version == 1 else [12.99, 12.89])
    assert [edited[name] for name in amounts] == ([2050, 2040] if version == 1 else [20.5, 20.4])
    assert told["got"]["data"] == edited
    assert told["listed"]["data"]["orders"] == [edited]
    assert [row["number"] for row in told["next"]["data"]["orders"]] == [made["number"] + 1]
    assert told["paid"]["data"]["status"] == "paid"
    assert (told["wrong"]["status"], told["unknown"]["status"]) == (422, 422)
    assert "colour" in told["unknown"]["problem"]["error"]
    assert told["repeated"]["status"] == 400
    assert told["removed"]["status"] == 204
    assert told["gone"]["status"] == 404
    if version == 2 and not told["isOff"]:
        assert made["shipping"] == {"city": "Oslo"}
        assert told["renamed"]["data"]["name"] == "B"
    served = {told[name].get("backend") for name in ("customer", "made")}
    assert served == {backend}


def test_counts_are_of_each_pair(shop: Shop) -> None:
    shop.at("rampdown")
    told_by(SCRIPT, shop.info.api_url, shop.info.publishable_key, "1", "rampdown")
    query = "select pair, sum(requests)::int as n from crossfade.request_minutes group by pair"
    eventually(lambda: {row["pair"] for row in shop.sql(query)} == set(PAIRS), "both are counted")

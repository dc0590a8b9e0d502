"""SQL, TypeScript and Python answer alike on random flags, with every step of the explanation."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crossfade.flags.evaluation import choose_backend, evaluate
from crossfade.flags.model import Context, Evaluation, FlagState, RuleStep
from crossfade.gateway.rows import parse
from crossfade.local.deno_runtime import deno_bin
from tests.sql.control import Connection, call, create_pair, unmirrored

ROOT = Path(__file__).parents[2]
STATES = 12
USERS = (
    "user-1",
    "Świętopełk",
    "你好",
    "😊",
    "00000000-0000-4000-8000-000000000001",
    "",
    " ",
    None,
)
AGENTS = ("agent-7", "ágent", "", None)
SWITCHES = ("stop_a", "stop_b", "Stop_c", "стоп")
NAMES = ("alpha", "beta", "Gamma", "größe-数", "😀flag", "zeta")
STAGES = ("off", "dualwrite", "shadow", "live", "live", "rampdown", "complete", "retired")


def ids(dice: random.Random, known: tuple[str | None, ...]) -> list[str]:
    return [one for one in known if one and dice.random() < 0.15]


def random_state(dice: random.Random) -> dict[str, Any]:
    """Control rows as read_flags answers them, with one pair."""
    flags = [
        {
            "name": name,
            "enabled": dice.random() < 0.8,
            "percentage": dice.choice([None, 0, 100, 0.001, 99.999, round(dice.random() * 100, 3)]),
            "default_value": dice.random() < 0.5,
            "cohort_key": dice.choice([name, "chat-v2", "ключ", "k:" * 40]),
            "allow_user_ids": ids(dice, USERS),
            "allow_agent_ids": ids(dice, AGENTS),
            "deny_user_ids": ids(dice, USERS),
            "deny_agent_ids": ids(dice, AGENTS),
            "prerequisites": dice.sample([*NAMES, "nowhere"], dice.choice([0, 0, 0, 1, 2])),
            "killed_by": dice.sample(SWITCHES, dice.choice([0, 0, 1, 2])),
        }
        for name in NAMES
    ]
    switches = [
        {
            "name": name,
            "engaged": dice.random() < 0.2,
            "fences": dice.random() < 0.3,
            "overrides_all": dice.random() < 0.1,
            "pair": dice.choice([None, "orders", "others"]),
        }
        for name in SWITCHES
    ]
    cohort = {
        "percentage": dice.choice([0, 100, round(dice.random() * 100, 3)]),
        "cohort_key": "orders",
        "enabled_user_ids": ids(dice, USERS),
        "enabled_agent_ids": ids(dice, AGENTS),
        "denied_user_ids": ids(dice, USERS),
        "denied_agent_ids": ids(dice, AGENTS),
    }
    gate = dice.choice([None, *NAMES, "nowhere"])
    pair = {"name": "orders", "stage": dice.choice(STAGES), "gate_flag": gate, "cohort": cohort}
    return {"flags": flags, "kill_switches": switches, "pairs": [pair], "settings": {}}


def random_context(dice: random.Random) -> dict[str, str]:
    some = dice.choice([*USERS, f"user-{dice.randrange(10**6)}"])
    given = {
        "user_id": some,
        "agent_id": dice.choice(AGENTS),
        "conversation_id": dice.choice(["conversation-3", "", None]),
    }
    return {name: value for name, value in given.items() if value is not None}


def edge_answers(cases: list[dict[str, Any]]) -> Any:
    result = subprocess.run(
        [
            str(deno_bin()),
            "run",
            "--quiet",
            "--no-check",
            "--no-lock",
            str(ROOT / "tests" / "edge" / "explain_cases.ts"),
        ],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def load(db: Connection, state: dict[str, Any]) -> None:
    """Make the state the only content of the control tables."""
    stamp = {"description": "", "updated_at": "2026-01-01", "updated_by": "test"}
    (pair,) = state["pairs"]
    # Evaluators agree on what may not be set any more as well.
    db.execute("alter table crossfade.flags disable trigger crossfade_refuse_bad")
    for table in ("flags", "kill_switches"):
        with unmirrored(db):  # built-in switches are deleted by nobody
            db.execute(f"delete from crossfade.{table}")
        rows = [{**stamp, **row} for row in state[table]]
        db.execute(
            f"insert into crossfade.{table}"
            f" select * from jsonb_populate_recordset(null::crossfade.{table}, %s)",
            [json.dumps(rows)],
        )
    # Past the guards against hand edits: no stage's preconditions matter here.
    db.execute("select set_config('crossfade.engine', 'on', true)")
    db.execute(
        "update crossfade.pairs set stage = %s, gate_flag = %s", [pair["stage"], pair["gate_flag"]]
    )
    columns = ", ".join(pair["cohort"])
    db.execute(
        f"update crossfade.cohorts set ({columns}) = (select {columns}"
        " from jsonb_populate_record(null::crossfade.cohorts, %s))",
        [json.dumps(pair["cohort"])],
    )
    db.execute("select set_config('crossfade.engine', '', true)")


def evaluation_json(answer: Evaluation) -> dict[str, Any]:
    figures = ("bucket", "threshold", "kill_switch", "prerequisite")

    def plain(source: Evaluation | RuleStep, *names: str) -> dict[str, Any]:
        values = {name: getattr(source, name) for name in (*names, *figures)}
        return {name: value for name, value in values.items() if value is not None}

    return {
        "flag": answer.flag,
        "value": answer.value,
        "variant": answer.variant,
        "reason": answer.reason.value,
        "metadata": plain(answer, "rule"),
        "steps": [plain(step, "rule", "matched", "value", "decides") for step in answer.steps],
    }


def without_version(answer: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in answer["metadata"].items() if k != "flags_version"}
    return {**answer, "metadata": metadata}


@pytest.fixture
def db(scratch: Connection) -> Connection:
    return scratch


def test_all_three_give_the_same_explanation(db: Connection) -> None:
    seed = int(os.environ.get("CROSSFADE_SEED", "20261122"))
    dice = random.Random(seed)
    cases: list[dict[str, Any]] = [
        {
            "state": {"flags_version": 7, **random_state(dice)},
            "contexts": [random_context(dice) for _ in range(4)],
        }
        for _ in range(STATES)
    ]
    create_pair(db, "orders")
    for case, edge in zip(cases, edge_answers(cases), strict=True):
        state: dict[str, Any] = case["state"]
        load(db, state)
        named = {kind: {row["name"]: row for row in state[kind]} for kind in ("flags", "pairs")}
        python = parse(FlagState, {**state, **named})
        for given, ours in zip(case["contexts"], edge, strict=True):
            context = Context(**given)
            for answer in ours["flags"]:
                name = answer["flag"]
                told = f"seed {seed}: {name} for {given}"
                sql = without_version(call(db, "explain_flag", name, given))
                assert without_version(answer) == sql, told
                assert evaluation_json(evaluate(python, name, context)) == sql, told
            (choice,) = ours["backends"]
            sql_choice = call(db, "choose_backend", "orders", given)
            told = f"seed {seed}: backend for {given}"
            assert {**choice, "flags_version": 0} == {**sql_choice, "flags_version": 0}, told
            own = choose_backend(python, python.pairs["orders"], context)
            assert (own.backend, own.reason, own.rule, own.bucket) == (
                sql_choice["backend"],
                sql_choice["reason"],
                sql_choice["rule"],
                sql_choice.get("bucket"),
            ), told

"""Names: this language has exactly those of tests/vectors/contract.json."""

import inspect
import json
from dataclasses import fields
from typing import Any

import pytest
from tests.unit.builders import VECTORS, project, seeded_settings

from crossfade.core import contract
from crossfade.core.contract import (
    ErrorCode,
    Event,
    FailurePolicy,
    FollowerOnly,
    Level,
    Mode,
    OperatorRole,
    Outcome,
    PartitionRemoval,
    Reason,
    RepairAction,
    RolloutState,
    RunState,
    Stage,
)
from crossfade.core.errors import _BY_CODE
from crossfade.flags.evaluation import evaluate
from crossfade.flags.model import Cohort, Context, Evaluation
from crossfade.gateway.supabase_gateway import SupabaseGateway
from crossfade.health.rules import RULES
from crossfade.testing import FakeGateway

CONTRACT: dict[str, Any] = {
    case["name"]: case["expect"]
    for case in json.loads((VECTORS / "contract.json").read_text("utf-8"))["cases"]
}
# What only the database or the edge function knows.
NOT_OURS = {
    "mirror_states",
    "backend_rules",
    "evaluation_rules",
    "outcomes",
    "run_kinds",
    "run_actions",
    "mismatch_kinds",
    "flags",
    "kill_switches",
    "request_event",
    "exposure",
    "latency_histogram",
    "settings",
    "request_headers",
    "response_headers",
    "version_sources",
    "supported_versions",
    "problems",
    "environment_flags",
}
OURS = {
    "stages": list(Stage),
    "levels": list(Level),
    "verdicts": list(Outcome),
    "rule_modes": list(Mode),
    "rollout_states": list(RolloutState),
    "failure_policies": list(FailurePolicy),
    "partition_removals": list(PartitionRemoval),
    "follower_only": list(FollowerOnly),
    "repair_actions": list(RepairAction),
    "operator_roles": list(OperatorRole),
    "reasons": list(Reason),
    "actor_header": contract.ACTOR_HEADER,
}
CHECKED_BELOW = {"rules", "batch_states", "error_codes", "rpcs", "broadcast", "cohort_fields"}


def test_no_entry_of_the_contract_is_ignored() -> None:
    assert set(CONTRACT) - NOT_OURS - set(OURS) - CHECKED_BELOW == set()


@pytest.mark.parametrize("name", sorted(OURS))
def test_literal_equals_the_contract(name: str) -> None:
    assert OURS[name] == CONTRACT[name]


def test_every_batch_state_is_known() -> None:
    assert set(CONTRACT["batch_states"]) <= set(RunState)


def test_every_rule_is_of_the_contract() -> None:
    assert {*RULES, "R3"} == set(CONTRACT["rules"])


def test_every_error_code_has_a_class() -> None:
    assert set(CONTRACT["error_codes"]) == set(ErrorCode) == set(_BY_CODE)


def test_every_rpc_is_known() -> None:
    assert list(contract.RPCS) == sorted(CONTRACT["rpcs"])


def test_broadcast_topic_and_events() -> None:
    assert CONTRACT["broadcast"]["topic"] == contract.TOPIC
    assert set(CONTRACT["broadcast"]["events"]) == set(Event)


def test_cohort_fields_are_columns_of_the_record() -> None:
    assert set(CONTRACT["cohort_fields"]) <= {field.name for field in fields(Cohort)}


def test_seeded_settings_are_read_from_the_migration() -> None:
    assert set(CONTRACT["settings"]) <= set(seeded_settings())
    assert len(seeded_settings()) > 40


def test_evaluation_rules_are_those_of_the_contract() -> None:
    answer: Evaluation = evaluate(project().read_flags(), "enable_caching", Context())
    rules = [step.rule for step in answer.steps]
    assert rules == CONTRACT["evaluation_rules"][: len(rules)]


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_the_fake_gateway_has_the_signatures_of_the_real_one() -> None:
    real, fake = public_methods(SupabaseGateway), public_methods(FakeGateway)
    only_for_tests = {"fail", "add_pair", "changed"}
    assert set(real) - {"close"} == set(fake) - only_for_tests
    assert {name: fake[name] for name in real if name in fake} == {
        name: value for name, value in real.items() if name in fake
    }

"""Short rounds of the soak; ``make soak`` runs it for minutes."""

from __future__ import annotations

import collections
import random
from collections.abc import Iterator

import pytest

from crossfade.local.postgres import PostgresServer
from tests.sql.conftest import DEBIAN_15

from .__main__ import servers
from .databases import world_database
from .mutations import Mutation, NotAppliedError
from .plans import Habits, make_plan
from .report import explain, never_done
from .rounds import Rounds
from .scripts import engine, preload
from .single import Player, no_mutation
from .works import WORKS
from .worlds import TRIGGERS, World

VERSIONS = [18] + ([15] if (DEBIAN_15 / "postgres").exists() else [])


@pytest.fixture(scope="module", params=VERSIONS)
def rounds(request: pytest.FixtureRequest) -> Iterator[Rounds]:
    with servers(request.param) as (server, spare):
        yield Rounds(server, request.param, spare, length=20)


@pytest.fixture(scope="module")
def server(rounds: Rounds) -> PostgresServer:
    return rounds.server


@pytest.mark.parametrize("audited", [False, True])
def test_the_model_is_right_about_a_table_without_an_engine(
    server: PostgresServer, rounds: Rounds, audited: bool
) -> None:
    triggers = tuple(t for t in TRIGGERS if t != "counter") if audited else ()
    parents = "v1" if audited else "none"
    world = World(triggers=triggers, audited=audited, parents=parents)
    rng = random.Random(1)
    habits = Habits("s", (1,), returning=not audited, merges=rounds.version >= 17)
    plans = [make_plan(rng, world, habits, number) for number in range(60)]
    with world_database(server, world) as place:
        outcome = Player(place, world, no_mutation).play([preload(rng, world), *plans])
    assert outcome.problems == []
    assert outcome.counts["commits"] > 15


@pytest.mark.parametrize("crowds", [0.0, 1.0], ids=["one session", "several sessions"])
def test_nothing_is_lost(rounds: Rounds, crowds: float) -> None:
    rounds.crowds = crowds
    rounds.kind = "mirror"  # the other kinds are for the long soak
    seeds = [1] if crowds else [3, random.SystemRandom().randrange(10**6)]
    print(f"seeds {seeds}, PostgreSQL {rounds.version}")
    commits = 0
    for seed in seeds:
        found = rounds.run(seed)
        assert not found.outcome.problems, explain(found, seed)
        commits += found.outcome.counts["commits"]
    assert commits > 8


def test_a_soak_in_which_the_engine_never_did_something_says_so() -> None:
    counts = collections.Counter({f"done {work}": 1 for work in WORKS} | {"rounds": 100})
    assert never_done(counts) == []
    counts["done complete"] = 0
    assert never_done(counts) == ["complete"]


def test_complete_is_reached_and_left(server: PostgresServer, rounds: Rounds) -> None:
    world = World(triggers=("signup", "hidden"))
    works = ("register", "dualwrite", "backfill", "shadow", "verify", "live", "everybody",
             "rampdown", "complete", "back", "clear", "verify", "rampdown")  # fmt: skip
    with world_database(server, world) as place:
        plans = [preload(random.Random(1), world), *(engine(work) for work in works)]
        outcome = Player(place, world, no_mutation).play(plans)
    assert outcome.problems == []
    assert outcome.counts["refused"] == 0
    assert outcome.counts["done rampdown"] == 2


def test_mutation_that_does_not_apply_is_an_error(server: PostgresServer) -> None:
    mutation = Mutation("none", "set_stage", "no such text", "")
    with world_database(server, World()) as place, place.connect() as connection:
        mutation.apply(connection, "before")
        with pytest.raises(NotAppliedError):
            mutation.apply(connection, "after")

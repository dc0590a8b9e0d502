"""One round of several sessions: engine, stages and chaos beside them; then quiet and judgement."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from . import restore
from .conductor import Conductor
from .databases import Place, crash
from .engine import Operator, Worker, kill
from .judge import Problem
from .scripts import TO_RAMPDOWN, engine, preload
from .session import Session
from .settlement import final_verify, history, look, lost_commits, settle
from .shared import Shared
from .single import Mutate, Outcome, Player
from .worlds import World

_MORE = range(100, 160)  # rows that few sessions meet, for the backfill


@dataclass(frozen=True)
class Chaos:
    """What disturbs a round.

    Attributes:
        kills: sessions killed per second, on average.
        crashes: crashes of the server in the round, on average.
        restores: share of rounds that go on in a restored dump.
    """

    kills: float = 0.7
    crashes: float = 0.5
    restores: float = 0.4


class Crowd:
    """Runs one round of several sessions in a fresh world."""

    def __init__(
        self,
        place: Place,
        world: World,
        rng: random.Random,
        *,
        version: int,
        mutate: Mutate,
        kind: str,
        chaos: Chaos,
        sessions: int = 4,
        transactions: int = 60,
    ) -> None:
        self._shared = Shared(place, world, merges=version >= 17)
        self._rng = rng
        self._mutate = mutate
        self._kind = kind
        self._chaos = chaos
        self._sessions = sessions
        self._transactions = transactions
        self._acknowledged: set[str] = set()
        self._undone: set[str] = set()

    def run(self) -> Outcome:
        shared, rng = self._shared, self._rng
        player = Player(shared.place, shared.world, self._mutate)
        works = ["register", *(TO_RAMPDOWN if self._kind == "retired" else ())]
        prepared = player.play([preload(rng, shared.world, _MORE), *map(engine, works)])
        if prepared.problems or prepared.counts["worlds refused"]:
            return prepared
        legs = 2 if rng.random() < self._chaos.restores else 1
        problems: list[Problem] = []
        for leg in range(legs):
            if leg:
                texts = restore.move(shared.place, rng)
                problems += [Problem("other problem", text) for text in texts]
                shared.count("restores")
            if not problems:
                self._leg(leg)
                problems += look(shared, final=False)
        problems += self._settle() if not problems else []
        problems += [Problem("other problem", text) for text in shared.problems]
        log = history(shared, problems) if problems else []
        return Outcome(problems, shared.counts, log)

    def _leg(self, leg: int) -> None:
        shared, rng = self._shared, self._rng
        shared.stop.clear()
        count = 10_000 if self._kind == "retired" else self._transactions
        sessions = [
            Session(f"{leg}s{n}", shared, random.Random(rng.random()), count)
            for n in range(self._sessions)
        ]
        work = [("backfill", 0.004), ("backfill", 0.01), ("repair", 0.05)]
        # Without verify nothing can mend by chance what the mirror forgot to record.
        verifies = rng.random() < 0.5 and self._kind != "retired"
        work += [("verify", 0.02)] if verifies else []
        workers = [Worker(shared, kind, pause) for kind, pause in work]
        conductor = Conductor(
            shared,
            sessions,
            random.Random(rng.random()),
            complete=shared.world.parents == "none" and rng.random() < 0.5,
            retire=self._kind == "retired",
            pause=rng.random() < 0.3,
        )
        threads = [*sessions, *workers, conductor]
        for thread in threads:
            thread.start()
        self._wreak_havoc(sessions, [w.operator for w in workers], conductor)
        shared.stop.set()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                shared.problems.append(f"{thread.name} hangs")
        for session in sessions:
            self._acknowledged |= set(session.acknowledged)
            self._undone |= set(session.undone)

    def _wreak_havoc(
        self, sessions: Sequence[Session], operators: Sequence[Operator], conductor: Conductor
    ) -> None:
        """Kill sessions and the server until all have finished or time is up."""
        shared, rng = self._shared, self._rng
        deadline = time.monotonic() + 30
        expected_s = self._sessions * self._transactions / 100
        while any(session.is_alive() for session in sessions) and time.monotonic() < deadline:
            if conductor.finished.wait(0.05):
                break
            if rng.random() < self._chaos.kills * 0.05:
                pids = [s.client.pid for s in sessions] + [
                    o.pid for o in (*operators, conductor.operator)
                ]
                kill(shared, rng.choice(pids), "kills")
            crashed = shared.counts["restarts"] > 1
            if not crashed and rng.random() < self._chaos.crashes * 0.05 / expected_s:
                crash(shared.place.server)
                shared.place.server.start()
                shared.count("restarts")

    def _settle(self) -> list[Problem]:
        shared = self._shared
        settle(shared)
        found = look(shared, final=True)
        with shared.place.connect() as db:
            found += lost_commits(db, self._acknowledged, self._undone)
        final_verify(shared)
        return found

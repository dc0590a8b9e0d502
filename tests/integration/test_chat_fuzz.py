"""Requests that nobody should send: a clear refusal each, and nothing lost, leaked or broken.

`CROSSFADE_FUZZ=20000` sends more (`make soak` does), `CROSSFADE_SEED=n` repeats a run.
"""

import os
import random
from collections.abc import Callable

import pytest

from .chat_fuzz import Fuzzer
from .chat_project import Project, User

COUNT = int(os.environ.get("CROSSFADE_FUZZ", "200"))


@pytest.mark.timeout(60 + COUNT // 20)
@pytest.mark.parametrize("stage", ["live"])
def test_no_request_breaks_anything(
    project: Project, sign_up: Callable[..., User], alice: User, stage: str
) -> None:
    project.at(stage)
    alice.catch_up(project)
    seed = int(os.environ.get("CROSSFADE_SEED", random.randrange(2**32)))
    fuzzer = Fuzzer(project, sign_up(), sign_up(), seed)
    try:
        fuzzer.run(COUNT)
    except BaseException:
        print(f"CROSSFADE_SEED={seed}")
        raise
    statuses = fuzzer.written.statuses
    # The fuzzer reaches deep: every kind of refusal there is, and also requests that are in order.
    assert {201, 400, 401, 404, 405, 413, 422} <= set(statuses), statuses

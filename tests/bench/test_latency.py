"""What a client of the chat API notices of dual write: nothing, within five percent."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from crossfade.local import LocalStack
from tests.integration.chat_project import Project, User, sign_up_user

from .measure import Ratio, Report

BLOCKS = 120
REQUESTS = 30  # a block


def test_chat_api_latency(report: Report) -> None:
    """Blocks of requests with the mirror on and off take turns, so that both meet the same load."""
    times: dict[str, list[list[float]]] = {"dualwrite": [], "off": []}
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        env = {"CROSSFADE_SOFT_AGE_MS": "100", "CROSSFADE_BROADCAST": "on"}
        with LocalStack(Path(name) / "project", env=env, isolates=1) as stack:
            project = Project(stack)
            user = sign_up_user(project)
            chat = user.new_chat()
            for number in range(BLOCKS):
                order = ("dualwrite", "off") if number % 2 else ("off", "dualwrite")
                for stage in order:
                    project.at(stage)
                    user.catch_up(project)
                    block(user, chat, 5)
                    times[stage].append(block(user, chat, REQUESTS))
            project.http.close()
            user.http.close()
    for label, part in (("p50", 0.5), ("p95", 0.95)):
        report.add(
            f"chat API latency, {label}, dual write on",
            compare(times["dualwrite"], times["off"], part),
            "<= 1.05",
            against="the same with the mirror off (ms)",
        )


def block(user: User, chat: str, count: int) -> list[float]:
    """Send messages one after the other; return their times in ms."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        answer = user.say(chat, "a few words of chat")
        found.append(1000 * (time.perf_counter() - start))
        assert answer.status_code == 201, answer.text
    return found


def compare(ours: list[list[float]], theirs: list[list[float]], part: float) -> Ratio:
    """Compare the least disturbed half of the blocks of each side, all their requests together."""
    ratios = [quantile(a, part) / quantile(b, part) for a, b in zip(ours, theirs, strict=True)]
    own, other = (quantile(quiet(side), part) for side in (ours, theirs))
    spread = f"block by block {min(ratios):.2f} to {max(ratios):.2f}, median "
    spread += f"{statistics.median(ratios):.2f}, {len(ratios)} blocks of {len(ours[0])}"
    return Ratio(own / other, spread, {"ours": own, "theirs": other})


def quiet(blocks: list[list[float]]) -> list[float]:
    """Return the requests of the faster half of the blocks."""
    best = sorted(blocks, key=statistics.median)[: (len(blocks) + 1) // 2]
    return [ms for some in best for ms in some]


def quantile(times: list[float], part: float) -> float:
    """Return the time that this part of the requests did not exceed."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]

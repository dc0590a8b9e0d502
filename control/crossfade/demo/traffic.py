"""The clients: many users at their apps, at a steady rate, for as long as the demo runs."""

import random
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from crossfade.demo.beliefs import Kept, OpenChat
from crossfade.demo.client import Account, ChatClient, Dialect, http_client, sign_up
from crossfade.demo.failures import StoryError, ThreadFailure
from crossfade.demo.history import HistoryChat
from crossfade.demo.session import Desk, Visit

# Apps in the wild: old ones that never heard of versions, and every way to ask for one.
V1_DIALECTS = (Dialect(1, "default"), Dialect(1, "header"), Dialect(1, "url"), Dialect(1, "accept"))
V2_DIALECTS = (Dialect(2, "header"), Dialect(2, "url"), Dialect(2, "accept"))


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """How many clients, and how fast.

    Attributes:
        rate: Requests per second of all clients together.
        v1: Users with an old app only; `v2` with a new app only; `both` with one of each.
        returning: Users of the V1 history who go on with their old chat.
        threads: Requests that can be under way at once.
    """

    rate: float = 30.0
    v1: int = 20
    v2: int = 14
    both: int = 6
    returning: int = 8
    threads: int = 10
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the chat function is and the key its gateway wants."""

    api_url: str
    chat_url: str
    key: str


def sign_up_users(endpoint: Endpoint, count: int, *, threads: int = 4) -> tuple[Account, ...]:
    """Sign up so many users with Supabase Auth.

    Raises:
        StoryError: Auth refused one.
    """
    tag = uuid.uuid4().hex[:8]

    def one(number: int) -> Account:
        with http_client() as http:
            email = f"user-{tag}-{number}@example.com"
            return sign_up(http, api_url=endpoint.api_url, key=endpoint.key, email=email)

    with ThreadPoolExecutor(threads) as pool:
        try:
            return tuple(pool.map(one, range(count)))
        except httpx.HTTPError as error:
            raise StoryError(f"Auth did not sign up a user: {error}") from error


class ClientTraffic:
    """Run the clients in threads until stopped.

    Args:
        endpoint: The chat function.
        plan: Numbers of clients and rate.
        accounts: At least `v1 + v2 + both + len(chats)` users.
        desk: Where the clients report to.
        chats: Chats of the history, one for each returning user, whose `user_id` is the account's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        plan: TrafficPlan,
        *,
        accounts: Sequence[Account],
        desk: Desk,
        chats: Sequence[HistoryChat] = (),
    ) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._desk = desk
        self._accounts = accounts
        self._chats = chats
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure = ThreadFailure("A client of the demo")

    def start(self) -> None:
        """Start all clients."""
        for number in range(self._plan.threads):
            thread = threading.Thread(
                target=self._run, args=(number,), name=f"clients-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self, *, timeout_s: float = 25.0) -> None:
        """Let every client finish its request, then end. Waits at most `timeout_s`."""
        self._stop.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def check(self) -> None:
        """Raise when a client stopped: silence must not look like health.

        Raises:
            StoryError: What broke it.
        """
        self._failure.check()

    def _run(self, number: int) -> None:
        plan = self._plan
        interval = plan.threads / plan.rate
        rng = random.Random(plan.seed * 1000 + number)  # noqa: S311 - repeatable, not secret
        try:
            with http_client() as http:
                sessions = [
                    self._session(client, dialects, chat, rng)
                    for client, dialects, chat in self._share(http, number)
                ]
                self._stop.wait(rng.random() * interval)
                self._pace(sessions, interval)
        except Exception as error:
            self._failure.keep(error)

    def _pace(self, sessions: Sequence[Visit], interval: float) -> None:
        turn = 0
        due = time.monotonic()
        while not self._stop.is_set() and sessions:
            sessions[turn % len(sessions)].step()
            turn += 1
            # A slow answer delays the next request but is not made up for by a burst: users wait.
            due = max(due + interval, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _share(
        self, http: httpx.Client, number: int
    ) -> Iterable[tuple[ChatClient, Sequence[Dialect], HistoryChat | None]]:
        everyone = list(cast_users(self._plan, self._accounts, self._chats))
        for account, dialects, chat in everyone[number :: self._plan.threads]:
            client = ChatClient(
                http, base_url=self._endpoint.chat_url, key=self._endpoint.key, account=account
            )
            yield client, dialects, chat

    def _session(
        self,
        client: ChatClient,
        dialects: Sequence[Dialect],
        chat: HistoryChat | None,
        rng: random.Random,
    ) -> Visit:
        own = random.Random(rng.getrandbits(64))  # noqa: S311 - repeatable, not secret
        opened = open_history(chat) if chat else None
        return Visit(client, dialects, desk=self._desk, rng=own, chat=opened)


def cast_users(
    plan: TrafficPlan, accounts: Sequence[Account], chats: Sequence[HistoryChat]
) -> Iterable[tuple[Account, Sequence[Dialect], HistoryChat | None]]:
    """Give every account its apps: the first ones the history chats, then old, new and both.

    Returning users alternate between the old app and both apps.
    """
    by_id = {account.user_id: account for account in accounts}
    for number, chat in enumerate(chats):
        old = V1_DIALECTS[number % len(V1_DIALECTS)]
        new = V2_DIALECTS[number % len(V2_DIALECTS)]
        yield by_id[str(chat.user_id)], (old,) if number % 2 else (old, new), chat
    owners = {str(chat.user_id) for chat in chats}
    rest = iter([account for account in accounts if account.user_id not in owners])
    for number in range(plan.v1):
        yield next(rest), (V1_DIALECTS[number % len(V1_DIALECTS)],), None
    for number in range(plan.v2):
        yield next(rest), (V2_DIALECTS[number % len(V2_DIALECTS)],), None
    for number in range(plan.both):
        old = V1_DIALECTS[number % len(V1_DIALECTS)]
        new = V2_DIALECTS[number % len(V2_DIALECTS)]
        yield next(rest), (old, new), None


def open_history(chat: HistoryChat) -> OpenChat:
    """Return what the owner of a history chat believes of it."""
    kept = [Kept(message.id, message.content, None, {}) for message in chat.messages]
    return OpenChat(chat.id, kept=kept, written=0)

"""How long every list takes over HTTP, at a million messages and a hundred thousand rooms.

    python -m tests.scale.measure [MESSAGES ROOMS]

Starts servers and an API of its own, fills them (a minute or two), asks for each list REPEATS times
on one connection, and prints p50, p95 and the longest in milliseconds. For a calm machine: it holds
nothing against a bound; docs/performance.md has figures.
"""

from __future__ import annotations

import http.client
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from tests.scale.filling import BIG, CROWD, HEAVY, WIDE, Sizes, fill
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer, run_sql
from tests.support.tokens import make_token

REPEATS: Final = 100
WARM_UP: Final = 10
Ask = Callable[[random.Random], str]


def questions(sizes: Sizes) -> dict[str, Ask]:
    """The path of each list; `dice` chooses where in it."""
    big = f"/v1/rooms/{BIG}/messages"
    messages, rooms = sizes.messages, sizes.rooms

    def anywhere(path: str, pages: int) -> Ask:
        return lambda dice: f"{path}page={dice.randint(1, max(1, pages))}"

    def fixed(path: str) -> Ask:
        return lambda _dice: path

    found: dict[str, Ask] = {
        "history, newest": fixed(big),
        "history, before": lambda dice: f"{big}?before={dice.randint(1, messages)}",
        "history, after": lambda dice: f"{big}?after={dice.randint(1, messages)}",
        "history, around": lambda dice: f"{big}?around={dice.randint(1, messages)}",
        "history, any page": anywhere(f"{big}?", messages // 50),
        "history, last page": fixed(f"{big}?page={messages // 50}"),
        "history, any skip": lambda dice: f"{big}?skip={dice.randint(1, messages)}",
    }
    filters = {
        "sender of half": ("sender=user1", 2),
        "rare sender": ("sender=user3", 500),
        "kind image": ("kind=image", 100),
        "kind text": ("kind=text", 2),
        "sender and kind": ("sender=user1&kind=image", 100),
        "sender and text": ("sender=user1&kind=text", 2),
        "time": ("from=2026-01-02T00:00:00Z&to=2026-01-09T00:00:00Z", 2),
        "sender, kind, time": ("sender=user1&kind=image&from=2026-01-02T00:00:00Z", 110),
    }
    for name, (query, share) in filters.items():
        found[f"{name}, newest"] = fixed(f"{big}?{query}")
        found[f"{name}, before"] = lambda dice, query=query: (  # type: ignore[misc]
            f"{big}?{query}&before={dice.randint(1, messages)}"
        )
        found[f"{name}, any page"] = anywhere(f"{big}?{query}&", messages // share // 50)
    return found | {
        "replies": fixed(f"{big}/5/replies"),
        "replies, any page": anywhere(f"{big}/5/replies?", messages // 300 // 50),
        "reactions, any page": anywhere(
            f"/v1/rooms/{WIDE}/messages/1/reactions?", sizes.members // 50
        ),
        "one message": lambda dice: f"{big}/{dice.randint(1, messages)}",
        "own rooms, page 1": fixed("/v1/me/rooms"),
        "own rooms, any page": anywhere("/v1/me/rooms?", rooms // 50),
        "own rooms, last page": fixed(f"/v1/me/rooms?page={rooms // 50}"),
        "favourites, page 1": fixed("/v1/me/favorites"),
        "favourites, any page": anywhere("/v1/me/favorites?", sizes.marks // 50),
        "KEY members, any page": anywhere(f"/v1/rooms/{CROWD}/members?", sizes.members // 50),
        "KEY users, any page": anywhere("/v1/users?", sizes.members // 50),
        "KEY rooms, page 1": fixed("/v1/rooms"),
        "KEY rooms, any page": anywhere("/v1/rooms?", rooms // 50),
        "KEY rooms of a kind, any page": anywhere("/v1/rooms?kind=public&", rooms // 500),
        "KEY rooms of a user": fixed(f"/v1/users/{HEAVY}/rooms"),
        "search": lambda dice: f"/v1/rooms/{BIG}/search?q=number+{dice.randint(1, messages)}",
        "search, every message": fixed(f"/v1/rooms/{BIG}/search?q=message"),
        "receipts, any page": anywhere(f"/v1/rooms/{BIG}/receipts?", 1),
        "KEY recipients, any page": anywhere(
            f"/v1/rooms/{CROWD}/messages/1/recipients?", sizes.members // 50
        ),
    }


def measure(port: int, ask: Ask, headers: dict[str, str]) -> tuple[list[float], int]:
    """Seconds of each request, sorted, and the status of the last."""
    dice = random.Random(3)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    status = 0
    for number in range(WARM_UP + REPEATS):
        path = ask(dice)
        begin = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
        if number >= WARM_UP:
            found.append(time.perf_counter() - begin)
    connection.close()
    return sorted(found), status


async def run(sizes: Sizes, folder: Path) -> None:
    """Start, fill, measure, print, stop."""
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    redis.start()
    postgres.start()
    url = postgres.create_database()
    env = {
        "REDIS_URL": redis.url,
        "DATABASE_URL": url,
        "RATE_REQUESTS_PER_SECOND": "100000",
    }
    processes = Processes(folder / "processes", env)
    try:
        run_sql(url, lambda connection: fill(connection, sizes))
        api = await processes.start_api()
        key = await new_key(processes)
        token = {"Authorization": f"Bearer {make_token(HEAVY)}"}
        print(f"{sizes}\n{'list':34} {'p50':>8} {'p95':>8} {'max':>8}  ms")
        for name, ask in questions(sizes).items():
            headers = {"X-API-Key": key} if name.startswith("KEY") else token
            times, status = measure(api.port, ask, headers)
            p50, p95 = statistics.median(times), times[int(len(times) * 0.95)]
            note = "" if status == 200 else f"  status {status}"
            ms = [1000 * value for value in (p50, p95, times[-1])]
            print(f"{name:34} {ms[0]:8.1f} {ms[1]:8.1f} {ms[2]:8.1f}{note}", flush=True)
    finally:
        processes.kill_all()
        postgres.stop()
        redis.stop()


async def new_key(processes: Processes) -> str:
    """A key of the default project."""
    made = await processes.start("apikey", "create", "--project", "default", ready=False)
    await made.wait_ended()
    return next(word for word in made.output().split() if len(word) > 40)


def main() -> None:
    """The command."""
    given = [int(text) for text in sys.argv[1:]]
    messages, rooms = given or (1_000_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="parley-scale-") as folder:
        trio.run(run, Sizes(messages=messages, rooms=rooms), Path(folder))


if __name__ == "__main__":
    main()

"""Frames of a hostile client against a running broker; `python -m tests.fuzz.frames --minutes N`.

What must hold whatever is sent: the connection does not hang; each frame with a legal id gets
exactly one answer, with a documented code, as documented in form; afterwards the connection
answers a ping, or it was closed with a documented code that fits. No frame is ever answered
`internal`, and nothing that was taken ends in the dead letters.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from broker.protocol.errors import CLOSES
from tests.fuzz.frame_strategies import Pool, Sent, batches, frame_id_of
from tests.support.asyncapi import frame_fault
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import make_token
from tests.support.wire_client import WireClient, open_wire_client

ROOM = "fuzz-room"
USER = "fuzz-alice"
DEADLINE = 30.0
# What a client may be closed with for its frames; 1011 (a bug) is not among them.
CLOSED_FOR_FRAMES = {1000, 1002, 1003, 1007, 1009, 4400, 4401, 4402, 4529}
_LAST = "the last ping"


def pool_of(room: str, user: str) -> Pool:
    """Values that mean something to the deployment, for fields of these names."""
    tokens = [
        make_token(user),
        make_token(user, rooms={room: ["join"]}),
        make_token("bob"),
        "x.y.z",
    ]
    return {
        "room": st.sampled_from([room, room, room, "nowhere", "a" * 128]),
        "token": st.sampled_from(tokens),
        "seq": st.integers(0, 8),
        "reply_to": st.integers(-1, 8) | st.none(),
        "client_id": st.sampled_from(["a", "b", "ü" * 32]) | st.none(),
    }


async def play(url: str, token: str | None, batch: list[Sent]) -> None:
    """Send a batch on one connection and hold the answers against the rules."""
    with trio.fail_after(DEADLINE):
        async with open_wire_client(url, token) as client:
            for sent in batch:
                await client.send(sent.opcode, *sent.parts)
            expected = _expected(batch)
            await client.wait(lambda: client.is_ended or _all_answered(client, expected))
            await client.send(1, json.dumps({"type": "ping", "id": _LAST}).encode())
            await client.wait(lambda: client.is_ended or _LAST in _answered(client))
            judge(client, expected, batch)


def judge(client: WireClient, expected: set[Any], batch: list[Sent]) -> None:
    """Raise AssertionError for a breach of the rules."""
    for frame in client.frames:
        fault = frame_fault(frame)
        assert fault is None, fault
        assert frame.get("code") != "internal", frame
    answers = Counter(_answered(client))
    assert not [key for key, count in answers.items() if count > 1], answers
    assert set(answers) - {_LAST} <= expected, (answers, expected)
    nameless = [frame for frame in client.frames if "id" in frame and frame["id"] is None]
    assert len(nameless) <= sum(1 for sent in batch if sent.text is None or _is_nameless(sent))
    if client.is_ended:
        known = {row.code for row in CLOSES}
        assert client.close_code in known & CLOSED_FOR_FRAMES, client.close_code
    else:
        assert expected <= set(answers)


def _expected(batch: list[Sent]) -> set[Any]:
    texts = [sent.text for sent in batch]
    ids = [frame_id_of(text) for text in texts if text is not None]
    return {frame_id for frame_id in ids if frame_id is not None}


def _is_nameless(sent: Sent) -> bool:
    return frame_id_of(sent.text or "") is None


def _answered(client: WireClient) -> list[Any]:
    return [frame["id"] for frame in client.frames if frame.get("id") is not None]


def _all_answered(client: WireClient, expected: set[Any]) -> bool:
    return expected <= set(_answered(client))


async def prepare(deployment: Deployment, room: str, user: str) -> None:
    """A room that the user may write to, with a message in it."""
    await deployment.create_room(room, user)
    await deployment.post(room, "first", user)


def attack(deployment: Deployment, room: str, user: str, *, examples: int) -> None:
    """Play so many batches; raises at the first that shows a fault, made small."""
    pool = pool_of(room, user)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(batches(pool), st.sampled_from([True, True, True, False]))
    def run(batch: list[Sent], is_authenticated: bool) -> None:
        token = make_token(user) if is_authenticated else None
        trio.run(partial(play, deployment.brokers[0].url, token, batch))

    run()


def main() -> None:
    """Attack a deployment of its own for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
        processes = Processes(folder / "processes", {})
        redis.start()
        postgres.start()
        try:
            start = partial(start_deployment, processes, redis, postgres.create_database())
            deployment = trio.run(partial(start, brokers=1))
            trio.run(prepare, deployment, ROOM, USER)
            played = 0
            while time.monotonic() < end:
                attack(deployment, ROOM, USER, examples=100)
                played += 100
                print(f"{played} connections", flush=True)
            trio.run(deployment.check_rooms)
        finally:
            processes.kill_all()
            redis.stop()
            postgres.stop()


if __name__ == "__main__":
    hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())
    main()

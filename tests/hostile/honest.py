"""The pair that must not feel an attack: one publishes, one receives, everything, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

from tests.support.lean_client import LeanClient, _Frame, open_lean_client, shake_hands
from tests.support.tokens import make_token
from tests.support.waiting import wait_until


@dataclass
class Felt:
    """What the pair felt: seconds from publishing to the event, and how many were published."""

    latencies: list[float] = field(default_factory=list)
    published: int = 0

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Receiver(LeanClient):
    """Notes when each message came."""

    felt: Felt

    def _take_event(self, frame: _Frame) -> None:
        if frame.event == "message.created":
            content = self._decode_message(frame.data).content or ""
            self.felt.latencies.append(trio.current_time() - float(content.split()[1]))
        super()._take_event(frame)


@asynccontextmanager
async def honest_pair(
    broker_url: str, room: str, *, pause: float = 0.05, users: tuple[str, str] = ("alice", "bob")
) -> AsyncIterator[Felt]:
    """Publish one message each `pause` seconds for the block; then all of them must be there."""
    felt = Felt()
    stopping = trio.Event()

    async def publish(alice: LeanClient) -> None:
        while not stopping.is_set():
            content = f"{felt.published} {trio.current_time()}"
            await alice.call("publish", room=room, content=content)
            felt.published += 1
            with trio.move_on_after(pause):
                await stopping.wait()

    async with (
        open_lean_client(broker_url, make_token(users[0])) as alice,
        _receiver(broker_url, make_token(users[1]), felt) as bob,
    ):
        await bob.call("subscribe", room=room)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, alice)
            await wait_until(lambda: felt.latencies, deadline=30)
            yield felt
            stopping.set()
        await wait_until(
            lambda: len(bob.events[room]) >= felt.published or bob.is_ended, deadline=30
        )
        seen = bob.events[room]
        assert not alice.is_ended
        assert not bob.is_ended, bob.close_code
        numbers = [int((event.content or "").split()[0]) for event in seen]
        assert numbers == list(range(felt.published))
        offsets = [event.offset for event in seen]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@asynccontextmanager
async def _receiver(url: str, token: str, felt: Felt) -> AsyncIterator[_Receiver]:
    target = urlsplit(url)
    stream = await trio.open_tcp_stream(target.hostname or "", target.port or 80)
    async with stream, trio.open_nursery() as nursery:
        client = _Receiver(stream)
        client.felt = felt
        client._buffer += await shake_hands(stream, url, token)
        nursery.start_soon(client.receive)
        yield client
        nursery.cancel_scope.cancel()

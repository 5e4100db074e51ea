"""The outbox over real sockets that take as much or as little as a test wants."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.held_back import HeldBack, Holding
from broker.keepalive import Closing
from broker.outbox import Outbox
from broker.protocol.frames import encode_close_frame, encode_text_frame
from tests.support.waiting import wait_until

SEND_QUEUE = 100_000


class Context:
    """What a listener gives its outboxes."""

    def __init__(self, nursery: trio.Nursery, send_queue_bytes: int) -> None:
        self._nursery = nursery
        self.send_queue_bytes = send_queue_bytes
        self.closing: list[Closing] = []
        self.holding: list[Holding] = []
        self.slow = 0
        self.writers = 0

    def start_task(self, run: Callable[[], Awaitable[None]]) -> None:
        self.writers += 1
        self._nursery.start_soon(run)

    def watch_closing(self, outbox: Closing, *, is_slow: bool = False) -> None:
        self.closing.append(outbox)

    def count_slow_consumer(self) -> None:
        self.slow += 1

    def send_soon(self, outbox: Holding) -> None:
        self.holding.append(outbox)


class StingySocket(socket.socket):
    """A real socket that takes at most what `portions` say, one after the other; then all."""

    portions: list[int]

    def send(self, data, *flags):
        return super().send(data[: self._portion()], *flags)

    def sendmsg(self, buffers, *rest):
        return super().send(b"".join(buffers)[: self._portion()])

    def _portion(self) -> int:
        portion = self.portions.pop(0) if self.portions else 1 << 30
        if portion == 0:
            raise BlockingIOError
        return portion


@asynccontextmanager
async def outbox_pair(
    portions: list[int] | None = None, send_queue_bytes: int = SEND_QUEUE
) -> AsyncIterator[tuple[Outbox, socket.socket, Context]]:
    """An outbox, the peer's socket and the context; small buffers, so that they fill soon."""
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stingy = StingySocket(fileno=ours.detach())
    stingy.setblocking(False)
    stingy.portions = list(portions or [])
    async with trio.open_nursery() as nursery:
        context = Context(nursery, send_queue_bytes)
        outbox = Outbox(stingy, context)
        try:
            yield outbox, theirs, context
        finally:
            outbox.end()
            theirs.close()


async def read_all(theirs: socket.socket) -> bytes:
    """Everything until the stream ends."""
    data = b""
    while True:
        await trio.lowlevel.wait_readable(theirs)
        chunk = theirs.recv(65536)
        if not chunk:
            return data
        data += chunk


async def read_exactly(theirs: socket.socket, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            await trio.lowlevel.wait_readable(theirs)
            data += theirs.recv(size - len(data))
    return data


def frames_of(sizes: list[int]) -> list[bytes]:
    return [encode_text_frame(bytes([65 + n % 26]) * size) for n, size in enumerate(sizes)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["post", "post_soon", "send_all"]), st.integers(0, 300)),
        max_size=20,
    ),
    st.lists(st.integers(0, 400), max_size=40),
)
@settings(deadline=None, max_examples=100)
def test_frames_are_whole_and_in_order_whatever_the_socket_takes(calls, portions):
    """Some frames are posted, some of them soon, some written by trio-websocket; now and then the
    writer runs."""
    frames = frames_of([size for _, size in calls])

    async def check() -> None:
        async with outbox_pair(portions) as (outbox, theirs, _):
            for (call, _), frame in zip(calls, frames, strict=True):
                if call == "send_all":
                    await outbox.send_all(frame)
                else:
                    getattr(outbox, call)(frame)
            outbox.send_held()
            expected = b"".join(frames)
            assert await read_exactly(theirs, len(expected)) == expected
            with trio.fail_after(5):
                await outbox.wait_send_all_might_not_block()
            assert outbox.kept_bytes == 0
            outbox.post(encode_text_frame(b"last"))
            assert await read_exactly(theirs, 6) == encode_text_frame(b"last")

    trio.run(check)


async def test_a_quick_peer_needs_no_writer():
    async with outbox_pair() as (outbox, theirs, context):
        for frame in frames_of([10] * 20):
            outbox.post(frame)
            assert await read_exactly(theirs, len(frame)) == frame
        assert context.writers == 0


async def test_a_frame_that_waits_for_company_shares_the_next_send():
    async with outbox_pair() as (outbox, theirs, context):
        answer, second, event = frames_of([10, 20, 30])
        outbox.post_soon(answer)
        outbox.post_soon(second)
        assert context.holding == [outbox]
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        outbox.post(event)
        assert theirs.recv(1000) == answer + second + event
        outbox.send_held()
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


async def test_a_frame_that_waits_in_vain_is_sent_alone():
    async with outbox_pair() as (outbox, theirs, context):
        (answer,) = frames_of([10])
        outbox.post_soon(answer)
        context.holding[0].send_held()
        assert theirs.recv(1000) == answer
        outbox.post(answer)
        assert theirs.recv(1000) == answer


async def test_what_waits_for_company_leaves_before_the_close_frame():
    async with outbox_pair() as (outbox, theirs, _):
        (answer,) = frames_of([10])
        outbox.post_soon(answer)
        outbox.disconnect(4401, "No.")
        assert theirs.recv(1000) == answer + encode_close_frame(4401, "No.")
        outbox.post_soon(answer)
        outbox.send_held()
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


async def test_what_waits_for_company_leaves_before_the_end_of_our_side():
    async with outbox_pair() as (outbox, theirs, _):
        (answer,) = frames_of([10])
        outbox.post_soon(answer)
        await outbox.wait_send_all_might_not_block()
        assert theirs.recv(1000) == answer


async def test_company_is_waited_for_no_longer_than_a_moment():
    async with outbox_pair() as (outbox, theirs, _), trio.open_nursery() as nursery:
        held_back = HeldBack()
        nursery.start_soon(held_back.run)
        for frame in frames_of([10, 20]):
            await trio.testing.wait_all_tasks_blocked()
            outbox.post_soon(frame)
            held_back.add(outbox)
            assert await read_exactly(theirs, len(frame)) == frame
        nursery.cancel_scope.cancel()


async def test_the_writer_ends_when_nothing_is_kept():
    async with outbox_pair() as (outbox, theirs, context):
        for round_ in (1, 2):
            frames = frames_of([3000] * 20)
            for frame in frames:
                outbox.post(frame)
            assert outbox.kept_bytes > 0
            assert context.writers == round_
            expected = b"".join(frames)
            assert await read_exactly(theirs, len(expected)) == expected
            await wait_until(lambda: outbox.kept_bytes == 0)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_slow_consumer_gets_whole_frames_then_4508():
    async with outbox_pair() as (outbox, theirs, context):
        frames = frames_of([3000] * 60)
        for frame in frames:
            outbox.post(frame)
        assert outbox.close_code == 4508
        assert context.slow == 1
        assert context.closing == [outbox]
        # The rest of one frame and the close frame: what had not begun to leave is gone.
        assert outbox.kept_bytes < 3200
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_when_flushed, outbox)
                data = await read_all(theirs)
        close = encode_close_frame(4508, outbox.close_reason)
        assert data.endswith(close)
        whole = data[: -len(close)]
        assert b"".join(frames).startswith(whole)
        assert len(whole) % len(frames[0]) == 0


@pytest.mark.parametrize("taken", [1, 1500, 3003, 3004, 3005, 6007])
async def test_a_frame_that_has_begun_to_leave_is_finished_before_4508(taken):
    """Two frames are posted in one piece; the kernel stops in either, or between them."""
    async with outbox_pair([taken] + [0] * 50) as (outbox, theirs, _):
        frames = frames_of([3000, 3000, 3000])
        outbox.post(frames[0] + frames[1])
        while not outbox.is_closing:
            outbox.post(frames[2])
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_when_flushed, outbox)
                data = await read_all(theirs)
        begun = b"".join(frames[: 1 if taken <= len(frames[0]) else 2])
        assert data == begun + encode_close_frame(4508, outbox.close_reason)


async def test_what_is_kept_is_bounded():
    async with outbox_pair(send_queue_bytes=50_000) as (outbox, _theirs, _):
        for frame in frames_of([1000] * 500):
            outbox.post(frame)
            assert outbox.kept_bytes <= 50_000
        assert outbox.is_closing


@pytest.mark.parametrize("portions", [[], [0], [1], [4000, 7]])
async def test_nothing_is_sent_after_our_close_frame(portions):
    async with outbox_pair(portions) as (outbox, theirs, context):
        first = encode_text_frame(b"x" * 5000)
        outbox.post(first)
        outbox.disconnect(4401, "No.")
        outbox.disconnect(1000, "Other.")
        outbox.post(encode_text_frame(b"late"))
        await outbox.send_all(encode_close_frame(4401, "No."))  # trio-websocket's echo
        await outbox.send_all(b"\x8a\x00")
        assert (outbox.close_code, outbox.close_reason) == (4401, "No.")
        assert context.closing == [outbox]
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_when_flushed, outbox)
                assert await read_all(theirs) == first + encode_close_frame(4401, "No.")


async def test_nothing_is_sent_after_the_echo_of_the_peers_close_frame():
    async with outbox_pair() as (outbox, theirs, _):
        echo = encode_close_frame(1000, "")
        await outbox.send_all(echo)
        outbox.post(encode_text_frame(b"late"))
        outbox.disconnect(4401)
        assert outbox.close_code is None
        outbox.end()
        assert await read_all(theirs) == echo


async def test_a_reason_is_cut_to_what_fits_and_defaults_to_the_sentence_of_its_code():
    async with outbox_pair() as (outbox, theirs, _):
        outbox.disconnect(4403)
        assert outbox.close_reason == "The user may not connect."
        outbox.end()
        assert await read_all(theirs) == encode_close_frame(4403, "The user may not connect.")


async def test_posting_to_a_lost_peer_is_silent():
    async with outbox_pair() as (outbox, theirs, context):
        theirs.close()
        for _ in range(3):
            outbox.post(encode_text_frame(b"x"))
        assert outbox.is_closing
        assert not outbox.is_ended
        assert context.closing == [outbox]
        assert outbox.kept_bytes == 0


async def test_a_peer_that_is_lost_while_frames_are_kept():
    async with outbox_pair() as (outbox, theirs, _):
        for frame in frames_of([3000] * 20):
            outbox.post(frame)
        theirs.close()
        await wait_until(lambda: outbox.is_closing)
        assert outbox.kept_bytes == 0


async def test_an_ended_outbox_takes_everything_and_sends_nothing():
    async with outbox_pair() as (outbox, theirs, _):
        for frame in frames_of([3000] * 20):
            outbox.post(frame)
        outbox.end(1006, "Lost.")
        outbox.end(1000)
        assert (outbox.close_code, outbox.close_reason) == (1006, "Lost.")
        outbox.post(b"x")
        outbox.disconnect(1000)
        with pytest.raises(trio.ClosedResourceError):
            await outbox.send_all(b"\x81\x00")
        with trio.fail_after(5):
            await outbox.wait_send_all_might_not_block()
            await outbox.aclose()
        assert outbox.kept_bytes == 0
        assert len(await read_all(theirs)) < 60_000


async def end_when_flushed(outbox: Outbox) -> None:
    await outbox.wait_send_all_might_not_block()
    outbox.end()

"""Connections over real sockets: good and bad input, slow and hostile peers, ends of every kind."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from broker.protocol.frames import encode_text_frame
from config.wire_limits import FRAGMENTS_MAX, FRAGMENTS_PER_MESSAGE_MAX
from tests.broker.wires import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RecordingApplication,
    connect,
    connect_raw,
    echo,
    ended,
    frame,
    head,
    only,
    serve,
    text,
)
from tests.support.waiting import wait_until

CONTINUATION = 0x0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TIDY_CLOSE = frame(CLOSE, b"\x03\xe8bye")


async def test_messages_are_handled_and_answered_in_order():
    application = RecordingApplication(echo)
    async with serve(application) as listener, connect(listener) as client:
        await client.send(b"".join(text(f"m{n}") for n in range(200)))
        for n in range(200):
            assert await client.read_text() == f"m{n}"
        await client.send(TIDY_CLOSE)
        assert await client.read_close() == (1000, "bye")
        assert await client.read_to_end() == []
        assert await ended(await only(application)) == 1000


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 125, 126, 999])
async def test_fragments_of_every_size(size):
    content = "".join(chr(65 + n % 26) for n in range(997)) + "é"
    data = content.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    application = RecordingApplication(echo)
    async with serve(application) as listener, connect(listener) as client:
        await client.send(text("before"))
        for place, piece in enumerate(pieces):
            opcode = TEXT if place == 0 else CONTINUATION
            await client.send(frame(opcode, piece, fin=place == len(pieces) - 1))
            if place % 10 == 0:
                await client.send(frame(PING, b"%d" % place))
        await client.send(text("after"))
        answers: list[str] = []
        pongs = 0
        while len(answers) < 3 or pongs < (len(pieces) + 9) // 10:
            got = await client.read_frame()
            assert got is not None
            if got[0] == PONG:
                pongs += 1
            else:
                answers.append(got[1].decode())
        assert answers == ["before", content, "after"]


@pytest.mark.parametrize("size", [1, 3, 8])
async def test_bytes_that_trickle_in(size):
    stream = text("hé") + frame(PING, b"p") + text("x" * 300) + TIDY_CLOSE
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        for at in range(0, len(stream), size):
            await client.send(stream[at : at + size])
            await trio.testing.wait_all_tasks_blocked()
        recorder = await only(application)
        assert await ended(recorder) == 1000
        assert recorder.texts == ["hé", "x" * 300]
        assert (await client.read_to_end())[0] == (PONG, b"p")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"x", mask=None), 1002),
        (frame(TEXT, b"x", rsv=4), 1002),
        (frame(0x3, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"x"), 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(BINARY, b"x"), 1003),
        (frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x"), 1003),
        (text("x" * 1001), 1009),
        (text("x" * 1001)[:10], 1009),
        (b"\x81\xff" + (2**62).to_bytes(8, "big"), 1009),
        (frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 600), 1009),
    ],
)
async def test_bad_frames_end_the_connection_with_their_code(bad, code):
    application = RecordingApplication()
    async with (
        serve(application, max_frame_bytes=1000) as listener,
        connect(listener) as other,
    ):
        async with connect(listener) as client:
            await client.send(text("good"), bad)
            got, reason = await client.read_close()
            assert got == code
            assert reason
            await client.send(TIDY_CLOSE)
            assert await client.read_to_end() == []
        recorder = application.recorders[1]
        assert await ended(recorder) == code
        assert recorder.texts == ["good"]
        # Nobody else is touched.
        await other.send(text("still here"))
        await wait_until(lambda: application.recorders[0].texts == ["still here"])


async def test_the_largest_frame_is_taken():
    application = RecordingApplication()
    async with serve(application, max_frame_bytes=65536) as listener, connect(listener) as client:
        await client.send(text("x" * 65536))
        recorder = await only(application)
        await wait_until(lambda: recorder.texts)
        assert recorder.texts == ["x" * 65536]


async def test_frames_sent_with_the_handshake_are_not_lost():
    application = RecordingApplication(echo)
    async with serve(application) as listener, connect_raw(listener) as client:
        await client.send(head() + text("early") + frame(TEXT, b"x", fin=False))
        status, headers, _ = await client.read_http()
        assert status == 101
        assert "sec-websocket-extensions" not in headers
        assert await client.read_text() == "early"
        await client.send(frame(CONTINUATION, b"y"))
        assert await client.read_text() == "xy"


async def test_ten_thousand_frames_at_once():
    application = RecordingApplication(echo)
    async with (
        serve(application) as listener,
        connect(listener) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.send, b"".join(text(str(n)) for n in range(10_000)))
        for n in range(10_000):
            assert await client.read_text() == str(n)


async def test_a_message_before_a_close_frame_is_handled_even_in_fragments():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        await client.send(
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + text("c") + TIDY_CLOSE
        )
        recorder = await only(application)
        assert await ended(recorder) == 1000
        assert recorder.texts == ["ab", "c"]


async def test_a_message_before_a_frame_over_the_limit_is_handled_even_in_fragments():
    application = RecordingApplication()
    async with serve(application, max_frame_bytes=100) as listener, connect(listener) as client:
        await client.send(
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + text("x" * 101)
        )
        assert (await client.read_close())[0] == 1009
        recorder = await only(application)
        await wait_until(lambda: recorder.texts == ["ab"])


async def test_a_broken_half_frame_at_the_end_is_judged():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        await client.send(frame(TEXT, b"\xff\xff\xff")[:-1])
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        assert (await client.read_close())[0] == 1007
        assert await ended(await only(application)) == 1007


async def test_the_close_frame_reaches_a_client_that_is_still_sending():
    """Closing a socket with unread bytes would reset it, and the reason would be lost."""
    application = RecordingApplication()
    async with (
        serve(application) as listener,
        connect(listener) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.send, frame(TEXT, b"x", mask=None) + b"x" * 2_000_000)
        await wait_until(lambda: application.recorders and application.recorders[0].peer.is_closing)
        assert (await client.read_close())[0] == 1002


async def test_a_paused_connection_with_messages_on_their_way_can_be_lost():
    def pause(recorder, content):
        recorder.peer.pause()

    application = RecordingApplication(pause)
    async with serve(application) as listener, connect(listener) as client:
        fragmented = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")
        await client.send(text("pause") + fragmented * 5)
        recorder = await only(application)
        await wait_until(lambda: recorder.texts)
        await trio.testing.wait_all_tasks_blocked()
        recorder.peer.end(1006)
        assert await ended(recorder) == 1006
        assert recorder.texts == ["pause"]
        await wait_until(lambda: listener.statistics().sockets == 0)


async def test_our_disconnect_is_the_code_that_counts():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        recorder = await only(application)
        recorder.peer.post(encode_text_frame(b"last"))
        recorder.peer.disconnect(4403, "Banned.")
        recorder.peer.post(encode_text_frame(b"too late"))
        await client.send(text("not handled"))
        assert await client.read_text() == "last"
        assert await client.read_close() == (4403, "Banned.")
        await client.send(frame(CLOSE, (4403).to_bytes(2, "big")))
        assert await client.read_to_end() == []
        assert await ended(recorder) == 4403
        assert recorder.texts == []


async def test_a_peer_that_does_not_answer_our_close_frame_is_ended_in_time():
    application = RecordingApplication()
    async with serve(application, close_timeout=0.2) as listener, connect(listener) as client:
        recorder = await only(application)
        recorder.peer.disconnect(1012)
        assert (await client.read_close())[0] == 1012
        assert await ended(recorder) == 1012
        await wait_until(lambda: listener.statistics().sockets == 0)


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_goes_without_a_close_frame(is_reset):
    application = RecordingApplication()
    async with serve(application) as listener:
        async with connect(listener) as client:
            recorder = await only(application)
            await client.send(text("a") + frame(TEXT, b"half", fin=False)[:-1])
            await wait_until(lambda: recorder.texts)
            if is_reset:
                assert isinstance(client.stream, trio.SocketStream)
                client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        assert await ended(recorder) == 1006


async def test_a_failing_receiver_closes_its_connection_alone():
    def fail(recorder, content):
        raise ValueError(content)

    application = RecordingApplication(fail)
    async with serve(application) as listener, connect(listener), connect(listener) as client:
        await client.send(text("x"))
        assert (await client.read_close())[0] == 1011
        await client.send(TIDY_CLOSE)
        assert await ended(application.recorders[1]) == 1011
        assert application.recorders[0].closed == []
        async with connect(listener):
            pass


async def test_an_application_that_fails_to_open_is_told_nothing_more():
    class Failing(RecordingApplication):
        def open_connection(self, peer):
            raise ValueError

    async with serve(Failing()) as listener, connect(listener) as client:
        assert (await client.read_close())[0] == 1011
        await wait_until(lambda: listener.statistics().sockets == 0)
        assert listener.statistics().open == 0


async def test_a_client_that_never_reads_is_closed_and_harms_nobody():
    application = RecordingApplication()
    async with (
        serve(application, send_queue_bytes=200_000, slow_close_timeout=0.3) as listener,
        connect(listener) as good,
        connect(listener),
    ):
        await wait_until(lambda: len(application.recorders) == 2)
        reader, sleeper = application.recorders
        event = encode_text_frame(b"x" * 10_000)
        sent = 0
        while not sleeper.peer.is_closing:
            for recorder in (reader, sleeper):
                recorder.peer.post(event)
            sent += 1
            assert sleeper.peer.kept_bytes <= 200_000
            assert await good.read_frame() == (TEXT, b"x" * 10_000)
        assert await ended(sleeper) == 4508
        assert reader.closed == []
        await wait_until(lambda: listener.statistics().sockets == 1)


async def test_a_slow_client_that_reads_again_gets_all():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        recorder = await only(application)
        frames = [encode_text_frame(f"{n}:".encode() + b"x" * 9000) for n in range(500)]
        async with trio.open_nursery() as nursery:

            async def post_all() -> None:
                for one in frames:
                    await wait_until(lambda: recorder.peer.kept_bytes < 500_000)
                    recorder.peer.post(one)

            nursery.start_soon(post_all)
            for n in range(500):
                assert (await client.read_text()).startswith(f"{n}:")


async def test_pausing_stops_reading_and_resuming_goes_on():
    def pause_at_two(recorder, content):
        if content == "2":
            recorder.peer.pause()

    application = RecordingApplication(pause_at_two)
    async with serve(application) as listener, connect(listener) as client:
        recorder = await only(application)
        fragmented = frame(TEXT, b"4", fin=False) + frame(CONTINUATION, b"")
        await client.send(text("1") + text("2") + text("3"), fragmented + text("5"))
        await wait_until(lambda: len(recorder.texts) == 2)
        await trio.testing.wait_all_tasks_blocked()
        assert recorder.texts == ["1", "2"]
        recorder.peer.resume()
        await wait_until(lambda: len(recorder.texts) == 5)
        assert recorder.texts == ["1", "2", "3", "4", "5"]


async def test_a_paused_connection_can_be_disconnected():
    application = RecordingApplication()
    async with serve(application, close_timeout=5.0) as listener, connect(listener) as client:
        recorder = await only(application)
        recorder.peer.pause()
        await client.send(text("x"))
        recorder.peer.disconnect(1001)
        assert (await client.read_close())[0] == 1001
        await client.send(frame(CLOSE, (1001).to_bytes(2, "big")))
        with trio.fail_after(3):
            assert await client.read_to_end() == []
        assert await ended(recorder) == 1001
        assert recorder.texts == []


async def test_a_flood_of_control_frames_is_ended():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, frame(PING, b"x") * 5000 + TIDY_CLOSE)
            assert (await client.read_close())[0] == 4529
        assert await ended(await only(application)) == 4529


async def test_a_flood_of_pongs_is_ended():
    """They do not go up to trio-websocket, and count all the same."""
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, frame(PONG, b"x") * 5000 + TIDY_CLOSE)
            assert (await client.read_close())[0] == 4529
        assert await ended(await only(application)) == 4529


async def test_trio_websocket_begins_only_with_what_it_has_to_see():
    application = RecordingApplication(echo)
    async with serve(application, ping_interval=0.2) as listener, connect(listener) as client:
        recorder = await only(application)
        await client.send(text("a") + frame(PONG, b"unasked") + text("b"))
        assert [await client.read_text() for _ in "ab"] == ["a", "b"]
        for _ in range(3):
            assert await client.read_frame() == (PING, b"")
            await client.send(frame(PONG))
        assert recorder.peer.fault_code is None
        await client.send(frame(PONG) + frame(TEXT, b"c", fin=False) + frame(PING, b"d"))
        await wait_until(lambda: recorder.peer.fault_code is not None)
        await client.send(frame(CONTINUATION, b"e") + text("f"))
        answers = [await client.read_frame() for _ in range(3)]
        assert [one for one in answers if one != (PING, b"")][:2] == [(PONG, b"d"), (TEXT, b"ce")]


async def test_an_answer_to_our_close_frame_needs_no_trio_websocket():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        recorder = await only(application)
        recorder.peer.disconnect(1012)
        assert (await client.read_close())[0] == 1012
        await client.send(frame(PING, b"x") + frame(CLOSE, (1012).to_bytes(2, "big")))
        assert await client.read_to_end() == []
        assert await ended(recorder) == 1012
        assert recorder.peer.fault_code is None


async def test_a_message_of_too_many_fragments_is_too_big():
    """Each fragment is an object of its own: the bytes alone do not bound what is held."""
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        pieces = frame(CONTINUATION, b"xx", fin=False) * FRAGMENTS_PER_MESSAGE_MAX
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, frame(TEXT, b"xx", fin=False) + pieces)
            assert (await client.read_close())[0] == 1009
        assert (await only(application)).texts == []


async def test_a_flood_of_fragments_is_ended():
    """Messages in two fragments each, which no rate of whole messages would have to notice."""
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener) as client:
        message = frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, message * (FRAGMENTS_MAX // 2 + 1000))
            assert (await client.read_close())[0] == 4529
        recorder = await only(application)
        assert await ended(recorder) == 4529
        assert len(recorder.texts) < FRAGMENTS_MAX // 2 + 100


async def test_pings_are_answered_with_their_payload():
    async with serve(RecordingApplication()) as listener, connect(listener) as client:
        for payload in (b"", b"x", b"y" * 125):
            await client.send(frame(PING, payload))
            assert await client.read_frame() == (PONG, payload)


async def test_nagle_is_off_and_ids_differ():
    application = RecordingApplication()
    async with serve(application) as listener, connect(listener), connect(listener):
        await wait_until(lambda: len(application.recorders) == 2)
        peers = [recorder.peer for recorder in application.recorders]
        for peer in peers:
            assert peer._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert peers[0].id != peers[1].id

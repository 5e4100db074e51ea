"""Property tests of one connection over a socket that cuts as it likes, and the error table."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ResponseError

from storage.errors import StorageUnavailable
from storage.redis.connection import RedisConnection
from storage.redis.replies import LifeInDoubt, pack, translate_error

_WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
REPLIES = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=60) | st.none(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


class PieceSocket:
    """Receives given pieces, then an end; takes so many bytes a send as told, then breaks."""

    knows_progress = True

    def __init__(self, pieces: Sequence[bytes], takes: Sequence[int]) -> None:
        self._pieces = list(pieces)
        self._takes = list(takes)
        self.sent = bytearray()
        self.all_submitted = trio.Event()

    async def send_some(self, data: bytes | memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if not self._takes:
            raise BrokenPipeError("taken enough")
        taken = bytes(data[: self._takes.pop(0)])
        self.sent += taken
        return len(taken)

    async def receive_into(self, buffer: bytearray) -> int:
        await self.all_submitted.wait()
        await trio.lowlevel.checkpoint()
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        pass


def encode(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(encode(item) for item in reply)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges) if b > a]


def serve(socket: PieceSocket, packed: Sequence[bytes]) -> list[Any]:
    """Submit all and run the connection to its end; the answers in order of their arrival."""
    answers: list[tuple[int, Any]] = []

    def keep(index: int, reply: Any) -> None:
        answers.append((index, reply))

    async def main() -> None:
        connection = RedisConnection(socket, command_timeout=10)
        for index, command in enumerate(packed):
            connection.submit(command, partial(keep, index))
        socket.all_submitted.set()
        with trio.fail_after(5):
            await connection.run()

    socket.all_submitted = trio.Event()
    trio.run(main)
    assert [index for index, _ in answers] == list(range(len(packed)))
    return [answer for _, answer in answers]


@settings(deadline=None)
@given(replies=st.lists(REPLIES, max_size=12), places=st.lists(st.integers(0), max_size=30))
def test_replies_cut_anywhere_give_the_same_answers(replies, places):
    data = b"".join(encode(reply) for reply in replies)
    socket = PieceSocket(cut(data, places), [10_000])
    assert serve(socket, [pack("PING")] * len(replies)) == replies


@settings(deadline=None)
@given(
    replies=st.lists(REPLIES, min_size=1, max_size=6),
    end=st.integers(0),
    places=st.lists(st.integers(0), max_size=10),
)
def test_a_stream_that_ends_anywhere_gives_whole_replies_and_then_unknown(replies, end, places):
    data = b"".join(encode(reply) for reply in replies)
    data = data[: end % (len(data) + 1)]
    answers = serve(PieceSocket(cut(data, places), [10_000]), [pack("PING")] * len(replies))
    whole = 0
    while whole < len(replies) and len(b"".join(map(encode, replies[: whole + 1]))) <= len(data):
        whole += 1
    assert answers[:whole] == replies[:whole]
    # The writer runs before or after the end is seen; what it has not sent is not done.
    assert all(isinstance(answer, StorageUnavailable) for answer in answers[whole:])


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=80), places=st.lists(st.integers(0), max_size=10))
def test_any_bytes_at_all_answer_every_command_exactly_once(data, places):
    serve(PieceSocket(cut(data, places), [10_000]), [pack("PING")] * 3)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    takes=st.lists(st.integers(1, 60), max_size=20),
)
def test_not_done_is_said_exactly_of_commands_whose_last_byte_was_not_taken(sizes, takes):
    packed = [pack("ECHO", b"x" * size) for size in sizes]
    socket = PieceSocket([], takes)

    async def never(buffer: bytearray) -> int:
        await trio.sleep_forever()
        raise AssertionError

    socket.receive_into = never  # type: ignore[method-assign]
    whole = b"".join(packed)
    if sum(takes) >= len(whole):
        takes.clear()
        socket = PieceSocket([], [])
        socket.receive_into = never  # type: ignore[method-assign]
    answers = serve(socket, packed)
    assert whole.startswith(bytes(socket.sent))
    end = 0
    for command, answer in zip(packed, answers, strict=True):
        end += len(command)
        assert answer.outcome == ("unknown" if end <= len(socket.sent) else "not_done")


@pytest.mark.parametrize(
    "code", ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "UNBLOCKED"]
)
@pytest.mark.parametrize("frame", ["{}", "ERR Error running script (call to f_0): @user: 1: -{}"])
def test_errors_that_put_the_life_in_doubt(code, frame):
    error = translate_error(frame.format(f"{code} something about it"))
    assert isinstance(error, LifeInDoubt)
    assert error.outcome == "not_done"
    assert error.reason == f"{code} something about it"


@pytest.mark.parametrize("code", ["ASK", "BUSY", "MISCONF", "NOREPLICAS", "OOM", "TRYAGAIN"])
def test_errors_of_a_server_that_cannot_just_now(code):
    error = translate_error(f"{code} something about it")
    assert type(error) is StorageUnavailable
    assert error.outcome == "not_done"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOSCRIPT No matching script.", NoScriptError),
        ("NOAUTH Authentication required.", AuthenticationError),
        ("WRONGPASS invalid username-password pair", AuthenticationError),
        ("NOPERM this user has no permissions", NoPermissionError),
        ("ERR unknown command", ResponseError),
        ("BUSYGROUP Consumer Group name already exists", ResponseError),
        ("ERR Error running script (call to f_0): @user_script:1: no such thing", ResponseError),
        ("", ResponseError),
    ],
)
def test_other_errors_are_those_of_redis_py(text, kind):
    assert type(translate_error(text)) is kind


@settings(deadline=None)
@given(_WORDS)
def test_any_error_text_becomes_an_exception(text):
    assert isinstance(translate_error(text), Exception)

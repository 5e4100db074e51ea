"""The short run of `tests.fuzz.frames`; and that its judge would notice."""

import json
from collections.abc import Callable

import pytest
import trio

from tests.fuzz import frames
from tests.fuzz.frame_strategies import Sent
from tests.support.deployment import Deployment
from tests.support.wire_client import WireClient


def test_whatever_is_sent_each_frame_has_one_answer_or_the_connection_a_close_code(
    shared_processes: Deployment, name: Callable[[str], str]
) -> None:
    room, user = name("fuzz"), name("alice")
    trio.run(frames.prepare, shared_processes, room, user)
    frames.attack(shared_processes, room, user, examples=40)
    trio.run(shared_processes.check_rooms)


PING = Sent(1, (b'{"type":"ping","id":1}',))
PONG = {"type": "reply", "id": 1, "result": {"time": "2026-01-02T03:04:05.678Z"}}
ERROR = {
    "type": "error", "id": 1, "code": "bad_request", "message": "No.", "retry_after": None,
    "field": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("received", "close_code"),
    [
        ([], None),
        ([PONG, PONG], None),
        ([PONG | {"id": 2}], None),
        ([PONG, ERROR | {"id": None}], None),
        ([ERROR | {"code": "internal"}], None),
        ([ERROR | {"code": "surprise"}], None),
        ([PONG], 1011),
        ([PONG], 3000),
        ([PONG], 1006),
    ],
)
def test_the_judge_notices(received: list[dict[str, object]], close_code: int | None) -> None:
    client = WireClient(None)  # type: ignore[arg-type]
    client.frames = [json.loads(json.dumps(frame)) for frame in received]
    client.close_code, client.is_ended = close_code, close_code is not None
    with pytest.raises(AssertionError):
        frames.judge(client, {1}, [PING])


def test_the_judge_is_content_with_an_answer_or_a_close_code() -> None:
    client = WireClient(None)  # type: ignore[arg-type]
    client.frames = [PONG]
    frames.judge(client, {1}, [PING])
    client.frames, client.is_ended, client.close_code = [], True, 1003
    frames.judge(client, {1}, [PING])

"""A client that talks through faults: it reconnects elsewhere, resumes, repeats what has no answer.

What it attempted and what it saw is recorded for `tests.support.checker`.
"""

from collections.abc import Callable
from typing import Any

import trio
import trio_websocket

from tests.support.checker import Attempt, Place, Seen, Start, View
from tests.support.client import ChatClient
from tests.support.seen import ChatError, ConnectionEnded, Position
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

# What a repeat with the same client_id is the answer to.
_TRY_AGAIN = {"unavailable", "overloaded", "rate_limited"}


class Talker:
    """One user in one room, on whatever node answers; `urls` may change at any time."""

    def __init__(self, user: str, room: str, urls: Callable[[], list[str]], turn: int) -> None:
        self.user = user
        self.room = room
        self.view = View(user, room)
        self.attempts: list[Attempt] = []
        self.connections = 0
        self.is_talking = True
        self.is_leaving = False
        self.may_talk = trio.Event()
        self.ids: set[str] = set()
        """Ids of the messages that it has seen."""
        self._urls = urls
        self._turn = turn
        self._said = 0
        self._unanswered: list[str] = []
        self._position: Position | None = None

    @property
    def answered(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.outcome == "ok"]

    @property
    def is_subscribed(self) -> bool:
        """It has been subscribed once; from then on it must see everything."""
        return self._position is not None

    @property
    def is_quiet(self) -> bool:
        """It says nothing more, and everything it said was answered."""
        return not self.is_talking and not self._unanswered

    async def run(self) -> None:
        """Talk until `is_leaving`."""
        while not self.is_leaving:
            urls = self._urls()
            url = urls[self._turn % len(urls)]
            self._turn += 1
            try:
                await self._talk_at(url)
            except (OSError, ConnectionEnded, trio_websocket.HandshakeError):
                # The node is gone: the next one may answer. Not all at once.
                await trio.lowlevel.checkpoint()

    async def _talk_at(self, url: str) -> None:
        async with ChatClient.connect(url, make_token(self.user)) as client:
            self.connections += 1
            recorder = _Recorder(client, self)
            try:
                await self._subscribe(client)
                recorder.record()
                for client_id in list(self._unanswered):
                    await self._publish(client, client_id)
                await self.may_talk.wait()
                while self.is_talking:
                    await self._say_next(client)
                await self._stay(client, recorder)
            finally:
                recorder.record()

    async def _subscribe(self, client: ChatClient) -> None:
        if self._position is None:
            await client.subscribe(self.room)
        else:
            await client.resume(self.room, self._position)

    async def _say_next(self, client: ChatClient) -> None:
        if not client.rooms[self.room].is_subscribed:
            await self._subscribe(client)
        self._said += 1
        client_id = f"{self.user}-{self._said}"
        self._unanswered.append(client_id)
        await self._publish(client, client_id)

    async def _stay(self, client: ChatClient, recorder: "_Recorder") -> None:
        def look() -> bool:
            recorder.record()
            return self.is_leaving or not client.rooms[self.room].is_subscribed

        while not self.is_leaving:
            await client.wait(look, deadline=40, what="the end of the round")
            if not self.is_leaving:
                await self._subscribe(client)

    async def _publish(self, client: ChatClient, client_id: str) -> None:
        while True:
            attempt = Attempt(self.room, self.user, client_id, "unknown")
            self.attempts.append(attempt)
            try:
                answer = await client.publish(self.room, f"said {client_id}", client_id=client_id)
            except ChatError as error:
                if error.code in _TRY_AGAIN:
                    await wait_until(lambda: True)
                    continue
                self.attempts[-1] = attempt._replace(outcome="refused")
            else:
                place = Place(answer["message_id"], answer["seq"], answer["offset"])
                self.attempts[-1] = attempt._replace(outcome="ok", place=place)
            self._unanswered.remove(client_id)
            return

    def note_position(self, position: Position | None) -> None:
        if position is not None:
            self._position = position


class _Recorder:
    """Turns the frames of one connection into items of the talker's view, as far as they came."""

    def __init__(self, client: ChatClient, talker: Talker) -> None:
        self._client = client
        self._talker = talker
        self._done = 0

    def record(self) -> None:
        frames = self._client.frames
        while self._done < len(frames):
            self._take(frames[self._done])
            self._done += 1
        self._talker.note_position(self._client.rooms[self._talker.room].position)

    def _take(self, frame: dict[str, Any]) -> None:
        items = self._talker.view.items
        if frame["type"] == "reply" and "recovered" in frame["result"]:
            result = frame["result"]
            missed = result["events"]
            items.append(
                Start(result["epoch"], result["offset"] - len(missed), not result["recovered"])
            )
            for body in missed:
                self._see(body)
        elif frame["type"] == "event" and frame.get("offset") is not None:
            self._see(frame)

    def _see(self, body: dict[str, Any]) -> None:
        data = body["data"]
        if body["event"] == "message.created":
            seen = Seen(body["offset"], data["seq"], data["id"], data["client_id"])
            self._talker.ids.add(data["id"])
        else:
            seen = Seen(body["offset"])
        self._talker.view.items.append(seen)

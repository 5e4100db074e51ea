"""A client that talks through faults: it reconnects elsewhere, resumes, repeats what has no answer.

What it attempted and what it saw is recorded (`tests/support/recording.py`).
"""

from collections.abc import Callable

import trio
import trio_websocket

from tests.faults.storm.record import Connection, Event, Operation, Subscribed
from tests.support.client import ChatClient
from tests.support.recording import Recorder, publish_of
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
        self.operations: list[Operation] = []
        self.connections: list[Connection] = []
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
    def answered(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.outcome == "ok"]

    def seen(self) -> list[str]:
        """Ids of the messages in the order in which they came."""
        return [
            event.data["id"]
            for connection in self.connections
            for frame in connection.frames
            for event in (frame.events if isinstance(frame, Subscribed) else [frame])
            if isinstance(event, Event) and event.event == "message.created"
        ]

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
            recorder = Recorder(client, f"{self.user}-{len(self.connections)}", self.user)
            self.connections.append(recorder.connection)
            try:
                await self._subscribe(client)
                self._note(client, recorder)
                for client_id in list(self._unanswered):
                    await self._publish(client, client_id)
                await self.may_talk.wait()
                while self.is_talking:
                    await self._say_next(client)
                await self._stay(client, recorder)
            finally:
                self._note(client, recorder)
                recorder.end()

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

    async def _stay(self, client: ChatClient, recorder: Recorder) -> None:
        def look() -> bool:
            self._note(client, recorder)
            return self.is_leaving or not client.rooms[self.room].is_subscribed

        while not self.is_leaving:
            await client.wait(look, deadline=40, what="the end of the round")
            if not self.is_leaving:
                await self._subscribe(client)

    async def _publish(self, client: ChatClient, client_id: str) -> None:
        while True:
            content, begun = f"said {client_id}", trio.current_time()
            attempt = publish_of(
                self.room, self.user, content, client_id=client_id, outcome="unknown", begun=begun
            )
            self.operations.append(attempt)
            try:
                answer = await client.publish(self.room, content, client_id=client_id)
            except ChatError as error:
                if error.code in _TRY_AGAIN:
                    await wait_until(lambda: True)
                    continue
                attempt = attempt._replace(outcome="failed", code=error.code)
            else:
                attempt = attempt._replace(outcome="ok", answer=answer)
            self.operations[-1] = attempt._replace(ended=trio.current_time())
            self._unanswered.remove(client_id)
            return

    def _note(self, client: ChatClient, recorder: Recorder) -> None:
        recorder.take()
        self.ids.update(message["id"] for message in client.messages(self.room))
        position = client.rooms[self.room].position
        if position is not None:
            self._position = position

"""The project's own hand in a storm: adds and removes members, changes rooms.

Requests are made with the project's key, each repeated until its outcome is known, as
docs/rest.md tells backends to do (repeating is harmless).
"""

import random
from collections.abc import Callable
from typing import Any

from tests.faults.storm.clients import Stage
from tests.faults.storm.notes import Note
from tests.faults.storm.wire import Answer, Gone, Rest
from tests.support.waiting import pass_time


class Backend:
    """Changes who is in which room while the storm lasts."""

    def __init__(
        self, rng: random.Random, stage: Stage, key: str, members: dict[str, list[str]]
    ) -> None:
        self.rng = rng
        self.stage = stage
        self._rest = Rest(stage.api_port, **{"X-API-Key": key})
        self._movable = members
        """Users that may be taken out of a group and brought back, by room."""
        self._waiting: dict[tuple[str, str], Callable[[], Any]] = {}

    async def create_rooms(self, rooms: dict[str, list[str]], public: str) -> None:
        """Before the storm: the groups with their members, and the public room."""
        for room, members in rooms.items():
            kind = "public" if room == public else "group"
            fields = {"id": room, "kind": kind, "members": members}
            note = await self._request("create", room, "POST", "/v1/rooms", fields, fields)
            assert note.outcome == "ok", note

    async def ask_presence(self, room: str) -> set[str] | None:
        """Who is told to be online in the room; None without an answer."""
        try:
            answer = await self._rest.send("GET", f"/v1/rooms/{room}/presence")
        except Gone:
            return None
        return {one["user"] for one in answer.body["users"]} if answer.status == 200 else None

    async def run(self) -> None:
        """Change something now and then; at the end whatever has no answer yet is repeated."""
        while not self.stage.is_ending.is_set():
            await pass_time(self.rng.uniform(0.1, 1.0))
            await self._change()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._rest.close()

    async def _change(self) -> None:
        room = self.rng.choice(list(self._movable))
        user = self.rng.choice(self._movable[room])
        path = f"/v1/rooms/{room}/members"
        choice = self.rng.random()
        if choice < 0.4:
            await self._insist("remove", room, "DELETE", f"{path}/{user}", None, {"user": user})
        elif choice < 0.9:
            await self._insist("add", room, "POST", path, {"user": user}, {"user": user})
        else:
            body = {"topic": f"topic {self.rng.randrange(1000)}"}
            await self._insist("update", room, "PATCH", f"/v1/rooms/{room}", body, body)

    async def _insist(
        self, kind: str, room: str, method: str, path: str, body: Any, asked: dict[str, Any]
    ) -> None:
        for _ in range(60):
            note = await self._request(kind, room, method, path, body, asked)
            if note.outcome != "unknown":
                return
            await pass_time(0.5)

    async def _request(
        self, kind: str, room: str, method: str, path: str, body: Any, asked: dict[str, Any]
    ) -> Note:
        note = self.stage.notes.begin(kind, None, room, asked)
        answer: Answer | None = None
        try:
            answer = await self._rest.send(method, path, body)
        except Gone:
            answer = None
        self.stage.notes.end_rest(note, answer)
        return note

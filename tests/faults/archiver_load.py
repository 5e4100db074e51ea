"""People who write, change, react, mark and come and go in a few rooms, while archivers die.

Everything goes through a broker and the API, which nobody disturbs here, so every command has an
answer: what was answered is noted, and must be among the events that a witness in each room sees.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from tests.faults.archive_model import RoomModel, differences
from tests.support.client import ChatClient, ChatError
from tests.support.deployment import Deployment
from tests.support.waiting import jitter, pass_time, wait_until

STEADY: Final = ("alice", "bob", "carol")
"""Members of every room from the first to the last event; carol is an admin."""
PASSING: Final = ("dave", "erin", "frank")
"""Added, ranked and removed all the time."""
OWNER: Final = "owner"
REACTIONS: Final = ("+1", "heart", "👀")
# What may be refused because of what another has done meanwhile.
_RACED: Final = frozenset({"conflict", "forbidden", "message_not_found"})
# People write faster than an archiver that dies all the time: they wait for it now and then.
BACKLOG_MAX: Final = 3000
PAUSE_MAX: Final = 0.03


class Load:
    """Some rooms with everybody who is in them; `run` in a nursery, `is_over` ends it."""

    def __init__(self, system: Deployment, rng: random.Random, rooms: list[str]) -> None:
        self.system = system
        self.rng = rng
        self.models = {room: RoomModel(room) for room in rooms}
        self.answered: dict[str, list[tuple[int, str, int | None]]] = {room: [] for room in rooms}
        """(offset, event, seq) of every answer that names an event, by room."""
        self.commands = 0
        self.is_over = False
        self._witnesses: dict[str, ChatClient] = {}
        self._said = 0
        self._backlog = 0
        self._newest = dict.fromkeys(rooms, 0)
        self._own: dict[tuple[str, str], list[int]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `is_over` and the witnesses have seen every event; then `models` is whole."""
        async with AsyncExitStack() as stack:
            for room, model in self.models.items():
                members = [*STEADY[:2], {"user": "carol", "role": "admin"}, "witness"]
                body = {"id": room, "created_by": OWNER, "members": members}
                await self.system.ok("POST", "/v1/rooms", body)
                model.roles = dict.fromkeys([*STEADY, "witness"], "member")
                model.roles |= {OWNER: "owner", "carol": "admin"}
                witness = await stack.enter_async_context(self.system.connect("witness"))
                result = await witness.subscribe(room)
                model.offset = result["offset"]
                self._witnesses[room] = witness
            async with trio.open_nursery() as nursery:
                for room in self.models:
                    for user in STEADY:
                        nursery.start_soon(self._act, room, user)
                    nursery.start_soon(self._come_and_go, room)
                nursery.start_soon(self._watch_backlog)
                task_status.started()
            for room, witness in self._witnesses.items():
                await self._see_all(room, witness)

    async def _see_all(self, room: str, witness: ChatClient) -> None:
        """Wait for every answered event, and replay what was seen."""
        newest = max((offset for offset, _, _ in self.answered[room]), default=0)
        stored = int(self.system.room_hash(room)["offset"])

        def is_whole() -> bool:
            position = witness.rooms[room].position
            return position is not None and position.offset >= max(newest, stored)

        await witness.wait(is_whole, deadline=40, what=f"the witness of {room} sees everything")
        seen = witness.rooms[room].events
        self.models[room].replay(seen)
        places = {
            (event.offset, event.event, event.data.get("seq")) for event in seen if event.offset
        }
        missing = [one for one in self.answered[room] if one not in places]
        assert missing == [], f"{room}: answered and never seen: {missing[:10]}"

    def check(self) -> None:
        """PostgreSQL equals the replay, row by row."""
        found: list[str] = []
        for model in self.models.values():
            found += differences(model, self.system.database_url, marked=STEADY)
        assert found == [], "\n".join(found[:20])

    async def check_reading(self) -> None:
        """What readers get is the same: the whole history, and search by some of its words."""
        for room, model in self.models.items():
            history = await self.system.whole_history(room)
            assert [message["seq"] for message in history] == list(model.messages)
            for message in history:
                kept = model.messages[message["seq"]]
                shown = None if kept["deleted_at"] else kept["content"]
                assert message["content"] == shown, (room, message)
            living = [m for m in model.messages.values() if not m["deleted_at"] and m["content"]]
            for kept in self.rng.sample(living, min(10, len(living))):
                word = kept["content"].split()[-1]
                page = await self.system.ok("GET", f"/v1/rooms/{room}/search?q={word}")
                found = {one["seq"] for one in page["items"]}
                wanted = {m["seq"] for m in living if word in m["content"].split()}
                assert found == wanted, (room, word)

    # --- what they do -------------------------------------------------------------------------

    async def _act(self, room: str, user: str) -> None:
        async with self.system.connect(user) as client:
            while not self.is_over:
                await self._pause()
                try:
                    await self._do_one(client, room, user)
                except ChatError as error:
                    if error.code not in _RACED:
                        raise
                self.commands += 1

    async def _do_one(self, client: ChatClient, room: str, user: str) -> None:
        kind = self.rng.choices(
            ["publish", "edit", "delete", "react", "unreact", "read", "delivered"],
            [10, 5, 1, 4, 2, 2, 1],
        )[0]
        newest, own = self._newest[room], self._own.setdefault((room, user), [])
        if kind == "publish" or not own:
            self._said += 1
            word = f"w{self._said}x{self.rng.randrange(10**6)}"
            fields: dict[str, Any] = {"client_id": word} if self.rng.random() < 0.5 else {}
            if newest and self.rng.random() < 0.2:
                fields["reply_to"] = self.rng.randint(1, newest)
            answer = await client.publish(room, f"{user} says {word}", **fields)
            self.answered[room].append((answer["offset"], "message.created", answer["seq"]))
            self._newest[room] = max(newest, answer["seq"])
            own.append(answer["seq"])
            return
        seq = max(1, newest - int(self.rng.expovariate(0.2)))
        if kind == "edit" or (kind == "delete" and user != "carol"):
            seq = own[-1 - min(len(own) - 1, int(self.rng.expovariate(0.5)))]
        model = self.models[room]
        if kind == "read":
            model.note_read(user, (await client.call(kind, room=room, seq=seq))["seq"])
        elif kind == "delivered":
            model.note_delivered(user, (await client.call(kind, room=room, seq=seq))["seq"])
        else:
            fields = {"content": f"{user} edits e{self.rng.randrange(10**6)}"}
            if kind in ("react", "unreact"):
                fields = {"reaction": self.rng.choice(REACTIONS)}
            if kind == "delete":
                fields = {}
            answer = await client.call(kind, room=room, seq=seq, **fields)
            name = {
                "edit": "message.edited", "delete": "message.deleted", "react": "reaction.added",
                "unreact": "reaction.removed",
            }[kind]  # fmt: skip
            if answer["offset"] is not None:
                self.answered[room].append((answer["offset"], name, seq))

    async def _come_and_go(self, room: str) -> None:
        path = f"/v1/rooms/{room}/members"
        while not self.is_over:
            await self._pause()
            user = self.rng.choice(PASSING)
            step = self.rng.randrange(3)
            if step == 0:
                answer = await self.system.send("POST", path, {"user": user})
            elif step == 1:
                role = {"role": self.rng.choice(["reader", "member", "admin"])}
                answer = await self.system.send("PATCH", f"{path}/{user}", role)
            else:
                answer = await self.system.send("DELETE", f"{path}/{user}")
            assert answer.status in (200, 201, 204, 404), answer
            self.commands += 1

    async def _pause(self) -> None:
        await jitter(PAUSE_MAX)
        await wait_until(
            lambda: self.is_over or self._backlog < BACKLOG_MAX, deadline=120, what="the archive"
        )

    async def _watch_backlog(self) -> None:
        while not self.is_over:
            self._backlog = self.system.archive_backlog()
            await pass_time(0.2)

"""What one connection may be sent, frame by frame: the promises to a subscription.

Nothing of a room before its subscribe reply or after its end; every offset once and in order, from
the reply's on; a recovered resume is exactly what was missed; what an event says is what was
published there, and its user might see it; each command is answered once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.broker.hubs import decode_frames
from tests.broker.machine.servers import PROJECT, Event, Servers

if TYPE_CHECKING:
    from tests.broker.machine.stepped import Client


REFUSALS = {"room_not_found", "not_a_member", "forbidden", "unavailable"}


class Position(NamedTuple):
    """How far a subscription has come."""

    epoch: str
    offset: int


class Judge:
    """Judges the frames of one client."""

    def __init__(self, client: Client, servers: Servers) -> None:
        self._client, self._servers = client, servers
        self._unanswered: dict[int, dict[str, Any]] = {}
        self.live: dict[str, Position] = {}
        """Rooms whose events the client counts on."""
        self.breaches: list[str] = []
        """Promises that were broken; raising here would only end a task of the product's."""
        self.last: dict[str, Position] = {}
        """Where each subscription was when it was last heard of."""
        self.first: dict[str, Position] = {}
        """The earliest position of the same life that the client was ever told."""
        self.ephemeral: dict[str, set[str]] = {}

    @property
    def waits_for(self) -> list[dict[str, Any]]:
        """Commands that were not answered."""
        return list(self._unanswered.values())

    def note_sent(self, frame: dict[str, Any]) -> None:
        self._unanswered[frame["id"]] = frame

    def take(self, data: bytes) -> None:
        """Judge whole frames that are sent to the client."""
        for frame in decode_frames(data):
            match frame["type"]:
                case "event":
                    self._take_event(frame)
                case "reply":
                    self._take_reply(self._answered(frame), frame["result"])
                case "error":
                    self._answered(frame)
                    self._require(frame["code"] in REFUSALS, "a refusal for no reason", frame)
                case "unsubscribed":
                    ended = self.live.pop(frame["room"], None)
                    self._require(ended, "the end of no subscription", frame)
                case _:
                    self._require(False, "a frame that nothing explains", frame)

    def _answered(self, frame: dict[str, Any]) -> dict[str, Any]:
        command = self._unanswered.pop(frame["id"], None)
        self._require(command is not None, "an answer without a command", frame)
        return command or {"type": "unsubscribe", "room": ""}

    def _take_reply(self, command: dict[str, Any], result: dict[str, Any]) -> None:
        room = command["room"]
        if command["type"] == "unsubscribe":
            self.live.pop(room, None)
            return
        epoch, offset, since = result["epoch"], result["offset"], command.get("since") or {}
        offsets = [event["offset"] for event in result["events"]]
        if result["recovered"]:
            self._require(since.get("epoch") == epoch, "recovered from elsewhere", result)
            missed = list(range(since.get("offset", 0) + 1, offset + 1))
            self._require(offsets == missed, "recovered, and not what was missed", result)
            for event in result["events"]:
                self._require_true(room, epoch, event)
        else:
            self._require(not offsets, "events although not recovered", result)
            self._require(bool(since) == bool(result["reason"]), "no reason", result)
        self._move(room, Position(epoch, offset))

    def _take_event(self, frame: dict[str, Any]) -> None:
        room = frame["room"]
        if room not in self.live:
            self._require(False, "an event without a subscription", frame)
            return
        if "offset" not in frame:
            seen = self.ephemeral.setdefault(room, set())
            name = frame["data"]["name"]
            self._require(name not in seen, "an ephemeral event twice", frame)
            seen.add(name)
            return
        epoch, offset = self.live[room]
        self._require(frame["offset"] == offset + 1, f"not the next after {offset}", frame)
        event = self._require_true(room, epoch, frame)
        may_see = event and self._client.user in event.may_see
        self._require(may_see, "not for this user any more", frame)
        self._move(room, Position(epoch, frame["offset"]))

    def _move(self, room: str, position: Position) -> None:
        self.live[room] = self.last[room] = position
        if self.first.get(room, position).epoch != position.epoch or room not in self.first:
            self.first[room] = position

    def _require_true(self, room: str, epoch: str, event: dict[str, Any]) -> Event | None:
        known = self._servers.events.get((f"{PROJECT}/{room}", epoch, event["offset"]))
        is_true = known is not None and event["data"]["id"] == known.name
        self._require(is_true, "an event that never was", event)
        return known

    def _require(self, holds: object, what: object, *values: object) -> None:
        if not holds:
            client = self._client
            self.breaches.append(f"{client.id} of {client.user}: {what} {values} ({self.live})")

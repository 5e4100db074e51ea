"""One authenticated (or not yet) WebSocket as the application sees it: frames in, frames out.

The rules: everything here is synchronous; whatever must wait runs in a task of the broker's and
comes back. Frames of one room take effect in the order sent, because one command of a room is
under way at a time and later ones queue behind it; different rooms may overtake each other. A
publish into a warm room takes no task at all: the frame is packed into the script's call here,
and the reply's callback posts the answer. Clean-up needs no Redis: it marks the hub dirty.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial

import trio

from broker import admission, handlers
from broker.domain.identity import Identity
from broker.fast_history import begin_history
from broker.fast_publish import begin_publish
from broker.peer import Peer
from broker.protocol import errors, frames
from broker.protocol.commands import (
    Auth,
    Command,
    History,
    Ping,
    Publish,
    Refresh,
    Unsubscribe,
    command_type,
    parse_command,
)
from broker.protocol.errors import NotAnObject, ProtocolError
from broker.protocol.frames import encode_text_frame
from broker.protocol.states import State, answer_to_fault, refusal_of
from broker.rates import Allowance
from broker.room_queue import RoomQueue
from broker.services import Services
from broker.workload import Workload
from config import limits
from storage.redis.keys import room_key, split_room_key


class Connection:
    """Receiver of one peer's messages and subscriber of its rooms."""

    __slots__ = (
        "_due_at",
        "_is_admitting",
        "_not_objects",
        "_peer",
        "_services",
        "_waiting",
        "_workload",
        "actor",
        "allowance",
        "channel",
        "has_finished_at_once",
        "identity",
        "is_beginning",
        "is_closed",
        "post",
        "queue",
        "rechecks",
        "state",
        "subscriptions",
        "typing",
        "user",
    )

    def __init__(self, peer: Peer, services: Services) -> None:
        now = trio.current_time()
        self._peer = peer
        self._services = services
        self.allowance = Allowance(services.paces)
        self.queue = RoomQueue(peer, self._begin)
        self._workload = Workload(services.fairness, self.queue)
        self._not_objects = 0
        self._waiting: deque[Command] | None = None
        self._is_admitting = False
        self.is_beginning = self.has_finished_at_once = False
        self._due_at = now + services.settings.auth_timeout
        self.state = State.AWAITING_AUTH
        self.actor = admission.NOBODY_YET
        self.identity: Identity | None = None
        self.user = self.channel = ""
        self.is_closed = False
        self.rechecks = 0
        self.subscriptions: dict[str, str] = {}
        """R of every subscription, begun or live, and the room's kind."""
        self.typing: frozenset[str] = frozenset()
        """R of the rooms that it types in."""
        self.post = peer.post

    @property
    def id(self) -> str:
        """The connection's id, as told in `hello`."""
        return self._peer.id

    def open(self) -> None:
        """The handshake has succeeded: use its token, or wait for an `auth` frame."""
        if (token := self._peer.handshake.take_token()) is not None:
            self._start_admission(token, None)

    # --- frames in ----------------------------------------------------------------------------

    def handle_text(self, text: str) -> None:
        """One message of the client's."""
        try:
            command = parse_command(text)
        except ProtocolError as fault:
            self._refuse_fault(fault)
            return
        if self._is_admitting:
            self._wait_for_admission(command)
            return
        self._handle(command)

    def handle_closed(self, code: int) -> None:
        """The connection has ended: forget everything it was part of."""
        self.is_closed = True
        hub = self._services.node.hub
        self._services.node.live.typists.end_all(self)
        for key in list(self.subscriptions):
            hub.remove(key, self, at_once=code == errors.FORBIDDEN)
        self.subscriptions.clear()
        if self.channel:
            hub.remove_connection(self.channel, self)
        self.queue.clear()
        self._workload.clear()
        self._waiting = None

    def _handle(self, command: Command) -> None:
        code = refusal_of(self.state, command_type(command))
        if code is not None:
            self.refuse(command.id, ProtocolError(code))
            self._count_refusal()
            return
        if wait := self.allowance.take(type(command), trio.current_time()):
            after = round(wait + 0.005, 2)
            self.refuse(command.id, ProtocolError("rate_limited", retry_after=after))
            self._services.metrics.rate_limited.inc()
            self._count_refusal()
            return
        if isinstance(command, Ping):
            self.reply(command.id, handlers.ping_result())
        elif isinstance(command, Auth | Refresh):
            if self.state is State.AWAITING_AUTH:
                self._start_admission(command.token, command)
            else:
                refresh = partial(handlers.refresh, self, self._services, command)
                self._workload.add(self, refresh)
        else:
            self.queue.add(room_key(self.actor.project, command.room), command)

    def _refuse_fault(self, fault: ProtocolError) -> None:
        answer = answer_to_fault(self.state, fault)
        self.send(frames.error_of(answer))
        self._count_refusal()
        if isinstance(fault, NotAnObject):
            self._not_objects += 1
            if self._not_objects >= errors.REFUSALS_UNTIL_CLOSE:
                self.disconnect(errors.NOT_AN_OBJECT)

    def _count_refusal(self) -> None:
        if self.allowance.refuse(trio.current_time()):
            self.disconnect(errors.TOO_MANY_FRAMES)

    # --- commands of rooms ---------------------------------------------------------------------

    def _begin(self, key: str, command: Command) -> bool:
        """Begin a command; True if it is done already (else `advance` follows later)."""
        if isinstance(command, Publish):
            return begin_publish(self, self._services, key, command)
        if isinstance(command, History):
            return begin_history(self, self._services, key, command)
        if isinstance(command, Unsubscribe):
            self._unsubscribe(key)
            self.reply(command.id, b"{}")
            return True
        self.start_room_command(key, command, handlers.slow_command(self, self._services, command))
        return False

    def start_room_command(self, key: str, command: Command, work: handlers.Work) -> None:
        """Run a command of a room in a task, behind the barrier for its errors."""
        deadline = trio.current_time() + limits.SLOW_COMMAND_DEADLINE

        async def run() -> None:
            try:
                await handlers.answer_errors(self, self._services, command, work, deadline)
            finally:
                self.queue.advance(key)

        self._workload.add(self, run)

    def _start_admission(self, token: str, command: Auth | Refresh | None) -> None:
        self._is_admitting = True
        self._services.start(partial(self._admit, token, command))

    async def _admit(self, token: str, command: Auth | Refresh | None) -> None:
        try:
            identity = await admission.admit(self, self._services, token)
        except Exception:
            self.disconnect(errors.INTERNAL_ERROR)
            raise
        if identity is None:
            return
        self.set_identity(identity)
        self.user = identity.user
        if self.state is State.AWAITING_AUTH:
            self.state = State.OPEN
        if command is not None:
            self.reply(command.id, handlers.auth_result(identity))
        self.send(handlers.hello(self, self._services))
        self._is_admitting = False
        waiting, self._waiting = self._waiting, None
        for earlier in waiting or ():
            self.queue.count_waiting(-1)
            self._handle(earlier)

    def _wait_for_admission(self, command: Command) -> None:
        self._waiting = self._waiting or deque()
        self._waiting.append(command)
        self.queue.count_waiting(1)

    # --- what commands use --------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """Send the JSON text of one frame."""
        self.post(encode_text_frame(payload))

    def post_soon(self, frame: bytes) -> None:
        """See `Peer.post_soon`."""
        self._peer.post_soon(frame)

    def reply(self, frame_id: int | str | None, result: bytes) -> None:
        """Answer a command that has an id."""
        if frame_id is not None:
            self.post(frames.encode_reply_frame(frame_id, result))

    def refuse(self, frame_id: int | str | None, error: ProtocolError) -> None:
        """Answer a command that failed, whether it has an id or not."""
        self.send(frames.error(frame_id, error.code, error.message, error.retry_after, error.field))

    def disconnect(self, code: int, reason: str = "") -> None:
        """End the connection after what has been posted."""
        self._peer.disconnect(code, reason or errors.close_reason(code))

    def set_identity(self, identity: Identity) -> None:
        """Take over a verified token; the clock of its expiry starts."""
        self.identity = identity
        self.actor = admission.actor_of(identity)
        lifetime = identity.expires_at - time.time()
        self._due_at = trio.current_time() + lifetime + limits.TOKEN_EXPIRY_GRACE

    def note_subscription(self, key: str, kind: str) -> None:
        """A subscription begins; the limit a connection has is checked here."""
        is_full = len(self.subscriptions) >= self._services.settings.max_subscriptions
        if is_full and key not in self.subscriptions:
            raise ProtocolError("limit_reached", field="room")
        self.subscriptions[key] = kind

    def _unsubscribe(self, key: str) -> None:
        self._services.node.live.typists.end(self, key)
        self._services.node.hub.remove(key, self)
        self.subscriptions.pop(key, None)

    def end_subscription(self, key: str, code: str, message: str) -> None:
        """A subscription has ended by the hub's doing: tell the client."""
        if self.subscriptions.pop(key, None) is not None:
            self._services.node.live.typists.end(self, key)
            self._services.metrics.subscriptions_ended.labels(code).inc()
            self.send(frames.unsubscribed(split_room_key(key)[1], code, message))

    def recheck(self) -> None:
        """Something about the user has changed: look again, also if that is under way."""
        self.rechecks += 1
        if not self.is_closed:
            self._services.start(partial(admission.look_again, self, self._services))

    def tick(self, now: float) -> None:
        """Look at the deadline of authentication or of the token (trio clock)."""
        if now < self._due_at or self._is_admitting:
            return
        if self.identity is None:
            admission.give_up(self, self._services)
        else:
            self.disconnect(errors.TOKEN_EXPIRED)

    def drain(self, reconnect_within: float) -> None:
        """The node is about to stop: no new commands, and the client should go elsewhere."""
        self.state = State.DRAINING
        self.send(frames.drain(reconnect_within))

    @property
    def has_work(self) -> bool:
        """Whether a command's answer is still on its way."""
        return self.queue.is_busy

"""The floor: a bare Python loop that does what no server in Python can do without.

It accepts, does the WebSocket handshake, unmasks a frame and sends one prepared frame to each
receiver of the room, and a prepared answer to the sender. Only the numbers that a client checks
(`id`, `offset`, `seq`) are put into the prepared bytes. It stores nothing, asks nobody, checks
nothing, joins nothing, and forgets all when it ends: what a broker does on top of this is what it
costs. Event frames have the size of the broker's.

    python -m bench.floor        prints its port, serves until its standard input is closed
"""

import base64
import hashlib
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Final

from bench import wire
from bench.dialect import content_of, parse_object

_ACCEPT_KEY: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PUBLISH: Final = b'{"type":"publish","id":'
_SUBSCRIBE: Final = b'{"type":"subscribe",'
_HELLO: Final = (
    b'{"type":"hello","connection":"floor","node":"floor","user":"floor","expires_at":null,'
    b'"ping_interval":25,"max_frame_bytes":65536,"server_time":"2026-01-02T03:04:05.678Z"}'
)
_UUID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
_TIME: Final = "2026-01-02T03:04:05.678Z"
_NUMBER: Final = "%10d"  # JSON allows the spaces in front, and the frame keeps its length
_ANSWER: Final = (
    b'{"type":"reply","id":%b,"result":{"message_id":"01890a5d-ac96-774b-bcce-b302099a8057",'
    b'"seq":%d,"offset":%d,"created_at":"2026-01-02T03:04:05.678Z","duplicate":false}}'
)


class FloorRoom:
    """The receivers of a room and its prepared frames."""

    __slots__ = ("event", "members", "offset")

    def __init__(self, name: str) -> None:
        self.members: list[FloorMember] = []
        self.offset = 0
        self.event = _prepare_event(name)


class FloorMember:
    """One connection."""

    __slots__ = ("is_open", "rest", "room", "send", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.send = sock.send
        self.rest = b""
        self.room: FloorRoom | None = None
        self.is_open = False


class Floor:
    """The server: one listening socket, one epoll, no tasks."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._members: dict[int, FloorMember] = {}
        self._rooms: dict[str, FloorRoom] = {}
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def serve(self, stop_fd: int) -> None:
        """Serve until `stop_fd` becomes readable (its other end was closed)."""
        self._epoll.register(stop_fd, select.EPOLLIN | select.EPOLLHUP)
        listener_fd = self._listener.fileno()
        while True:
            for fd, _ in self._epoll.poll():
                member = self._members.get(fd)
                if member is not None:
                    self._read(member)
                elif fd == listener_fd:
                    self._accept()
                else:
                    return

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._members[sock.fileno()] = FloorMember(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, member: FloorMember) -> None:
        try:
            data = member.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(member)
            return
        if member.rest:
            data = member.rest + data
        if not member.is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                member.rest = head
                return
            self._open(member, head)
        position = 0
        size = len(data)
        while size - position >= 6:
            length = data[position + 1] & 127
            start = position + 6
            if length == 126:
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                start += 2
            end_of_frame = start + length
            if end_of_frame > size:
                break
            payload = wire.apply_mask(data[start:end_of_frame], data[start - 4 : start])
            if payload.startswith(_PUBLISH) and member.room is not None:
                self.publish(member, member.room, payload)
            elif payload.startswith(_SUBSCRIBE):
                self._subscribe(member, parse_object(payload)["room"])
            position = end_of_frame
        member.rest = data[position:]

    def publish(self, member: FloorMember, room: FloorRoom, payload: bytes) -> None:
        """Send the room's event to each receiver and the answer to the sender."""
        room.offset = offset = room.offset + 1
        self.deliver(room, room.event % (offset, offset))
        number = payload[23 : payload.find(b",", 23)]
        _send_whole(member.send, wire.server_frame(_ANSWER % (number, offset, offset)))

    def deliver(self, room: FloorRoom, frame: bytes) -> None:
        """Send `frame` to each receiver of the room."""
        size = len(frame)
        for member in room.members:
            try:
                sent = member.send(frame)
            except BlockingIOError:
                sent = 0
            if sent != size:
                _finish(member.sock, frame[sent:])

    def _open(self, member: FloorMember, head: bytes) -> None:
        member.is_open = True
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_KEY, usedforsecurity=False).digest())
        member.sock.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + wire.server_frame(_HELLO)
        )

    def _subscribe(self, member: FloorMember, name: str) -> None:
        room = self._rooms.setdefault(name, FloorRoom(name))
        if member.room is None:
            room.members.append(member)
            member.room = room
        reply = (
            f'{{"type":"reply","id":0,"result":{{"room":"{name}","epoch":"floor",'
            f'"offset":{room.offset},"seq":{room.offset}}}}}'
        )
        _send_whole(member.send, wire.server_frame(reply.encode()))

    def _forget(self, member: FloorMember) -> None:
        del self._members[member.sock.fileno()]
        if member.room is not None:
            member.room.members.remove(member)
        member.sock.close()


def _prepare_event(room: str) -> bytes:
    """A whole event frame as the broker sends it, with places for offset and seq."""
    content = content_of("floor", 0)
    payload = (
        f'{{"type":"event","event":"message.created","room":"{room}","offset":{_NUMBER},'
        f'"time":"{_TIME}","data":{{"id":"{_UUID}","room":"{room}","seq":{_NUMBER},'
        f'"sender":"floor-user-1","kind":"text","content":"{content}","metadata":{{}},'
        f'"attachments":[],"mentions":[],"reply_to":null,"reply_count":0,"forwarded_from":null,'
        f'"client_id":"floor-client-1-00001","created_at":"{_TIME}","edited_at":null,'
        f'"deleted_at":null,"deleted_by":null,"reactions":{{}}}}}}'
    )
    length = len(payload % (0, 0))
    return bytes((0x81, 126, length >> 8, length & 255)).replace(b"%", b"%%") + payload.encode()


def _send_whole(send: Callable[[bytes], int], data: bytes) -> None:
    if send(data) != len(data):
        raise BlockingIOError("a client does not read its answers")


def _finish(sock: socket.socket, data: bytes) -> None:
    """The rest of a frame that the kernel did not take at once, waiting for room."""
    while data:
        select.select([], [sock], [])
        data = data[sock.send(data) :]


def listen() -> socket.socket:
    """A listening socket on any free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    return listener


def main(build: Callable[[socket.socket], Floor] = Floor) -> None:
    """Serve until standard input ends, so that no floor outlives its generator."""
    listener = listen()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    stop_fd = sys.stdin.fileno()
    os.set_blocking(stop_fd, False)
    build(listener).serve(stop_fd)


if __name__ == "__main__":
    main()

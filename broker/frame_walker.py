"""The fast way in: finds whole text frames in the bytes of one connection.

`walk` takes bytes as they came from the socket, cut anywhere, and gives steps in order: a `str`
is a complete message to handle at once; `bytes` are frames for trio-websocket, unchanged; empty
`bytes` are a pong; an `int` is a close code. Together they give exactly what plain trio-websocket
would have given.

The rules: only a complete, unfragmented, masked text frame of valid UTF-8 is handed out as text.
A whole pong is counted and dropped: pings are ours, so trio-websocket waits for none. Everything
else goes up whole (other control frames, fragments, binary, broken ones, for trio-websocket to
judge). While a message that went up is not handled yet, text frames go up too, so none is
overtaken. After a broken or a close frame everything goes up unlooked at. What is held is one
partial frame, at most `frame_bytes_max` and its header. A longer frame, or a longer message in
fragments (or one of too many), gives 1009 as soon as its header is there, and everything after it
is dropped.

No I/O here, nothing awaits, and no frame is handled.
"""

from __future__ import annotations

from typing import Final

from broker.protocol import errors
from config import wire_limits

Step = str | bytes | int

_TEXT_WHOLE: Final = 0x81
_PONG_WHOLE: Final = 0x8A
_FIN: Final = 0x80
_RSV: Final = 0x70
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_CONTINUATION: Final = 0x0
_CLOSE: Final = 0x8
_OPCODES: Final = frozenset({0x0, 0x1, 0x2, 0x8, 0x9, 0xA})
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125
_MEDIUM: Final = 126
_MEDIUM_MAX: Final = 0xFFFF
_LONG: Final = 127
_LONG_MAX: Final = 2**63 - 1
_HEADER_MAX: Final = 14
_XOR_BY_INTEGER_MAX: Final = 512  # above it four table look-ups over strides are faster

_TABLES: Final = tuple(bytes(byte ^ mask for byte in range(256)) for mask in range(256))

_BROKEN: Final = -1
_PARTIAL: Final = -2
_TOO_BIG: Final = -3


class FrameWalker:
    """Walks the frames of one connection; see the module's docstring.

    `messages_up` counts complete data messages that went up; whoever handles one takes one off.
    `controls` and `fragments` count control frames (pongs too) and other frames that went up.
    `has_seen_close`: the peer's close frame went up.
    """

    __slots__ = (
        "_frame_bytes_max",
        "_is_deaf",
        "_is_unlooked",
        "_message_bytes",
        "_pieces",
        "_rest",
        "controls",
        "fragments",
        "has_seen_close",
        "messages_up",
    )

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._rest = b""
        self._message_bytes = -1  # size so far of a fragmented message; -1: none is open
        self._pieces = 0
        self._is_unlooked = False
        self._is_deaf = False
        self.messages_up = 0
        self.controls = 0
        self.fragments = 0
        self.has_seen_close = False

    @property
    def held_bytes(self) -> int:
        """Bytes of a partial frame that are held."""
        return len(self._rest)

    @property
    def is_busy(self) -> bool:
        """Whether more went up than is allowed in CONTROL_FRAMES_SECONDS."""
        return (
            self.controls > wire_limits.CONTROL_FRAMES_MAX
            or self.fragments > wire_limits.FRAGMENTS_MAX
        )

    def walk(self, data: bytes) -> list[Step]:
        """The steps that these next bytes complete."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        steps: list[Step] = []
        at = 0
        end = len(data)
        while at < end:
            if self._is_unlooked:
                if not self._is_deaf:
                    steps.append(data[at:] if at else data)
                break
            stop = self._stop_of_frame(data, at, end)
            if stop == _PARTIAL:
                self._rest = data[at:] if at else data
                break
            if stop < 0:
                self._is_unlooked = True
                if stop == _TOO_BIG:
                    self._is_deaf = True
                    steps.append(errors.FRAME_TOO_BIG)
                continue
            if data[at] == _TEXT_WHOLE and self.messages_up == 0:
                steps.append(self._text(data, at, stop))
            elif data[at] == _PONG_WHOLE:
                self.controls += 1
                steps.append(b"")
            else:
                self._note_upward(data[at])
                steps.append(data[at:stop])
            at = stop
        return steps

    def end(self) -> bytes:
        """The partial frame that is held at the end of the stream: it goes up as it is."""
        rest, self._rest = self._rest, b""
        return rest

    def _stop_of_frame(self, data: bytes, at: int, end: int) -> int:
        """Where the frame that begins at `at` ends; negative: why there is no such place."""
        if end - at < 2:
            return _PARTIAL
        first = data[at]
        second = data[at + 1]
        length = second & 0x7F
        is_usual = first == _TEXT_WHOLE and self._message_bytes < 0
        if second < _MASKED or not (is_usual or self._is_legal(first, length)):
            return _BROKEN
        header = 6
        if length > _SHORT_MAX:
            header = 8 if length == _MEDIUM else _HEADER_MAX
            if end - at < header - 4:
                return _PARTIAL
            length = int.from_bytes(data[at + 2 : at + header - 4], "big")
            if length <= (_SHORT_MAX if header == 8 else _MEDIUM_MAX) or length > _LONG_MAX:
                return _BROKEN
        if not first & _CONTROL and (
            self._size_with(first, length) > self._frame_bytes_max
            or self._pieces >= wire_limits.FRAGMENTS_PER_MESSAGE_MAX
        ):
            return _TOO_BIG
        stop = at + header + length
        if stop > end:
            return _PARTIAL
        if not first & _CONTROL and first != _TEXT_WHOLE:
            self._message_bytes = -1 if first & _FIN else self._size_with(first, length)
            self._pieces = 0 if first & _FIN else self._pieces + 1
        return stop

    def _is_legal(self, first: int, length: int) -> bool:
        """What trio-websocket would not refuse by the first byte and the short length."""
        opcode = first & _OPCODE
        if first & _RSV or opcode not in _OPCODES:
            return False
        if opcode & _CONTROL:
            return first & _FIN != 0 and length <= _SHORT_MAX
        return (opcode == _CONTINUATION) == (self._message_bytes >= 0)

    def _size_with(self, first: int, length: int) -> int:
        """Size of the message so far with this frame.

        An empty fragment counts as one byte, or a message could be made of endless nothing.
        """
        if self._message_bytes < 0:
            return length
        return self._message_bytes + (length or 1)

    def _note_upward(self, first: int) -> None:
        if first & _CONTROL:
            self.controls += 1
            if first & _OPCODE == _CLOSE:
                self.has_seen_close = self._is_unlooked = True
        else:
            self.fragments += 1
            if first & _FIN:
                self.messages_up += 1

    def _text(self, data: bytes, at: int, stop: int) -> Step:
        length = data[at + 1] & 0x7F
        begin = at + (6 if length <= _SHORT_MAX else 8 if length == _MEDIUM else _HEADER_MAX)
        payload = unmask(data[begin:stop], data[begin - 4 : begin])
        try:
            return payload.decode()
        except UnicodeDecodeError:
            self._is_unlooked = True
            return data[at:stop]


def unmask(payload: bytes, mask: bytes) -> bytes | bytearray:
    """`payload` XOR the repeated four bytes of `mask`."""
    length = len(payload)
    if length <= _XOR_BY_INTEGER_MAX:
        words = (length + 3) >> 2
        both = int.from_bytes(payload, "little") ^ int.from_bytes(mask * words, "little")
        return both.to_bytes(words << 2, "little")[:length]
    plain = bytearray(payload)
    for place in range(4):
        plain[place::4] = plain[place::4].translate(_TABLES[mask[place]])
    return plain

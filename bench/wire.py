"""WebSocket as a client of the load generator speaks it: bytes in, bytes out.

Rules: nothing here owns a socket or reads a clock. Client frames are masked with a real mask, so
that the server's unmasking is part of what is measured. Server frames are only divided, never
copied: whoever walks a buffer gets positions in it.

Deliberately not here: fragments (no server that is measured sends any; one that did would be
reported as an error, not misread), compression, and what the payloads mean (`bench.dialect`).
"""

import base64
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
CONTROL: Final = 8  # this bit is in the opcode of every control frame and of no other

# opcode, first byte of the payload, first byte after the frame
FramePlace = tuple[int, int, int]


class WireError(Exception):
    """The server sent bytes that are not a complete, unfragmented, unmasked server frame."""


def handshake_request(
    host: str, port: int, target: str, headers: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """The upgrade request for `target`, the path with its query, with further `headers`."""
    key = base64.b64encode(os.urandom(16)).decode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"{more}\r\n"
    ).encode()


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """`payload` under the four bytes of `mask`; applying it twice gives `payload` again."""
    length = len(payload)
    pattern = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")
    return masked.to_bytes(length, "little")


def client_frame(payload: bytes, mask: bytes, opcode: int = TEXT) -> bytes:
    """One whole masked client frame; `payload` is at most 65535 bytes."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        head = bytes((0x80 | opcode, 0xFE, length >> 8, length & 255))
    else:
        raise ValueError(f"a client frame of {length} bytes is more than the generator sends")
    return head + mask + apply_mask(payload, mask)


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole unmasked server frame, for the floor."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return bytes((0x80 | opcode, 126, length >> 8, length & 255)) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


def walk_frames(data: bytes) -> tuple[list[FramePlace], int]:
    """Every complete server frame in `data`, and where the incomplete rest begins."""
    places: list[FramePlace] = []
    position = 0
    size = len(data)
    while size - position >= 2:
        first = data[position]
        length = data[position + 1]
        start = position + 2
        if first & 0x70 or not first & 0x80 or first & 0x0F == 0 or length > 127:
            raise WireError(f"unexpected frame header {data[position : position + 2].hex()}")
        if length == 126:
            start = position + 4
            length = int.from_bytes(data[position + 2 : start], "big")
        elif length == 127:
            start = position + 10
            length = int.from_bytes(data[position + 2 : start], "big")
        end = start + length
        if end > size or start > size:
            break
        places.append((first & 0x0F, start, end))
        position = end
    return places, position

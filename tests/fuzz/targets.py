"""Functions that take any bytes and raise where a rule of the product is broken.

Each target is what a parser or codec of ours promises: bytes are understood, or refused by the one
error that its callers expect, and nothing else comes out; what was understood means the same when
it is read again. Targets are pure and quick (some ten microseconds), so that a fuzzer gets through
millions of inputs; `python -m tests.fuzz` runs them for minutes, the suite over the kept inputs.

A new target is a function here with its row in TARGETS, and a file of inputs in `corpus/`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, cast

from redis.exceptions import RedisError
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage

from api.bodies import acting_user, parse_body
from api.history_pages import message_name
from api.message_copies import ForwardBody
from broker.domain.access import Actor
from broker.domain.identity import Identity, TokenExpired, TokenInvalid, TokenVerifier
from broker.domain.key_set import KeysUnavailable, parse_key_set
from broker.domain.members import MemberPatch, MembersBody, parse_change, parse_members
from broker.domain.notifying import Notifier
from broker.domain.publishing import draft_event, parse_sent
from broker.domain.room_changes import RoomPatch, parse_room_patch
from broker.domain.rooms import RoomBody, parse_new_room
from broker.domain.user_changes import UserPatch, parse_ids, parse_user_patch
from broker.domain.users import TokenBody, UserBody, parse_new_user
from broker.frame_walker import FrameWalker, Step
from broker.handshake import BadRequest, Handshake, judge, read_request
from broker.protocol.commands import Publish, command_type, parse_command
from broker.protocol.errors import ERRORS, ProtocolError
from broker.protocol.events import event_frame
from broker.protocol.frames import encode_text_frame, error_of, reply
from broker.protocol.ids import is_project_id, is_room_id, is_user_id
from broker.protocol.message_changes import parse_message_edit
from broker.protocol.message_draft import parse_message_draft
from broker.protocol.refusal import is_frame_id
from config.durations import format_duration, parse_duration
from config.metrics import Metrics
from config.rules import Origins, Url
from storage.errors import StorageUnavailable
from storage.postgres.archive_audit import audit_rows
from storage.postgres.archive_plan import Accepted, Incoming, plan_batch
from storage.redis.address import parse_redis_url
from storage.redis.entries import Entry, pack_entry, parse_entry
from storage.redis.replies import INCOMPLETE, PROTOCOL_ERRORS, build_reader, pack, translate_error
from workers.archiver.notifying import MessageNotices

ROOM: Final = "room"
KEY: Final = f"default/{ROOM}"
SECRET: Final = "a secret that is long enough for HS256"
_FRAME_BYTES_MAX: Final = 300
_MS: Final = 1_700_000_000_000
_CODES: Final = frozenset(row.code for row in ERRORS)
_VERIFIER: Final = TokenVerifier(keys={"HS256": (SECRET.encode(),)})
_PROJECT_ACTOR: Final = Actor("default", None, "project")
_UNASKED: Final = cast("Notifier", None)


class Breach(AssertionError):
    """A rule of the product does not hold for an input."""


def require(holds: object, what: str, *values: object) -> None:
    """Raise Breach unless it holds."""
    if not holds:
        raise Breach(f"{what}: {values!r}")


# --- WebSocket frames -----------------------------------------------------------------------------


def walk_frames(data: bytes) -> None:
    """Wherever the bytes are cut the walker gives the same, and with what it leaves to wsproto the
    same messages as wsproto alone."""
    cuts, stream = data[:3], data[3:]
    whole = _walk([stream])
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    bounds = [0, *places, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    require(_walk(pieces) == whole, "cuts change what the walker gives", pieces)
    require(_walk([stream[at : at + 1] for at in range(len(stream))]) == whole, "byte by byte")
    ours, code = _messages(whole)
    plain, _ = _messages([stream])
    if code == 1009:
        require(plain[: len(ours)] == ours, "messages before 1009", ours, plain)
    else:
        require(ours == plain, "other messages than wsproto", ours, plain)


def _walk(pieces: list[bytes]) -> list[Step]:
    """The walker's steps, with neighbouring pieces of bytes joined."""
    walker = FrameWalker(_FRAME_BYTES_MAX)
    steps: list[Step] = []
    for piece in pieces:
        for step in walker.walk(piece):
            if isinstance(step, bytes) and steps and isinstance(steps[-1], bytes):
                steps[-1] += step
            elif step != b"":
                steps.append(step)
        require(walker.held_bytes <= _FRAME_BYTES_MAX + 14, "holds more than a frame")
    return steps


def _messages(steps: list[Step]) -> tuple[list[str | bytes], int | None]:
    """Texts and the bytes of binary messages, up to the first close or fault."""
    connection = Connection(ConnectionType.SERVER)
    messages: list[str | bytes] = []
    parts: list[Any] = []
    for step in steps:
        if isinstance(step, int):
            return messages, step
        if isinstance(step, str):
            messages.append(step)
            continue
        connection.receive_data(step)
        for event in connection.events():
            if isinstance(event, CloseConnection):
                return messages, event.code
            _collect(event, parts, messages)
    return messages, None


def _collect(event: Event, parts: list[Any], messages: list[str | bytes]) -> None:
    if isinstance(event, TextMessage | BytesMessage):
        parts.append(event.data)
        if event.message_finished:
            empty: Any = "" if isinstance(event, TextMessage) else b""
            messages.append(empty.join(parts))
            parts.clear()


# --- commands and events --------------------------------------------------------------------------


def command(data: bytes) -> None:
    """A frame's text is a command or a ProtocolError; a publish comes out of the log as it went
    in, and the archive takes it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    outcomes: list[Any] = []
    for form in (text, data):
        try:
            outcomes.append(parse_command(form))
        except ProtocolError as error:
            _judge_refusal(error)
            outcomes.append((error.code, error.field, error.frame_id))
    require(outcomes[0] == outcomes[1], "text and bytes differ", outcomes)
    parsed = outcomes[0]
    if isinstance(parsed, tuple):
        return
    require(parsed.id is None or is_frame_id(parsed.id), "an id that is none", parsed.id)
    require(command_type(parsed), "a command without a type")
    json.loads(reply(parsed.id, b"{}"))
    if isinstance(parsed, Publish):
        _publish(parsed)


def _judge_refusal(error: ProtocolError) -> None:
    require(error.code in _CODES and error.code != "internal", "no code of the table", error.code)
    frame = error_of(error)
    require(json.loads(frame)["code"] == error.code, "an error frame that is none", frame)
    encode_text_frame(frame)


def _publish(parsed: Publish) -> None:
    try:
        draft = draft_event(KEY, ROOM, "alice", parsed, 0)
    except ProtocolError as error:
        require(error.code == "message_not_found", "refused late", error.code)
        return
    entry = Entry("epoch", 1, 1, _MS, draft.event, KEY, "alice", 0, draft.data)
    raw = pack_entry(entry)
    require(parse_entry(raw) == entry, "an entry is changed by storing it", entry)
    frame = event_frame(entry.event, ROOM, 1, 1, _MS, entry.data)
    seen = json.loads(frame)["data"]
    for name in ("content", "client_id", "reply_to"):
        require(seen[name] == getattr(parsed, name), f"{name} arrives changed", seen)
    require(seen["metadata"] == (parsed.metadata or {}), "metadata arrive changed", seen)
    plan = plan_batch([Accepted(1, Incoming(raw, entry))])
    require(not plan.dead, "accepted, and a dead letter", plan.dead)
    require(plan.messages[0].row.content == parsed.content, "archived changed", plan.messages)


# --- entries --------------------------------------------------------------------------------------


def entries(data: bytes) -> None:
    """A stream field is an entry or a ValueError; planning a batch of whatever is stored in one
    never raises, and every message has its row."""
    try:
        entry = parse_entry(data)
    except ValueError:
        return
    plain = entry._replace(sender=entry.sender or None)
    require(parse_entry(pack_entry(plain)) == plain, "an entry is changed by storing it", entry)
    batch = [Accepted(1, Incoming(data, entry), is_late) for is_late in (False, True, False)]
    plan = plan_batch(batch)
    created = 3 if entry.event == "message.created" else 0
    require(len(plan.messages) == created, "a message without a row", plan)
    audit_rows(batch)
    MessageNotices(_UNASKED, Metrics()).note([entry, entry])


def sent_answers(data: bytes) -> None:
    """A remembered answer is one or a ValueError."""
    try:
        parse_sent(data)
    except ValueError:
        return


# --- Redis ----------------------------------------------------------------------------------------


def redis_replies(data: bytes) -> None:
    """Bytes of a server are replies, error replies as exceptions, or no protocol at all."""
    reader = build_reader()
    at = data[0] % len(data) if data else 0
    try:
        for piece in (data[:at], data[at:]):
            reader.feed(piece)
            while reader.gets() is not INCOMPLETE:
                pass
    except PROTOCOL_ERRORS:
        # Both transports give up a connection that brings one.
        require(data, "nothing is no protocol")
    text = data.decode(errors="replace")
    found = translate_error(text)
    require(isinstance(found, StorageUnavailable | RedisError), "no error of ours", found)
    packed = pack(data, text.encode())
    again = build_reader()
    again.feed(packed)
    require(again.gets() == [data, text.encode()], "a command is packed wrongly", packed)


# --- tokens ---------------------------------------------------------------------------------------


def tokens(data: bytes) -> None:
    """Any text is an identity or TokenInvalid or TokenExpired; and so are any signed claims."""
    _verify(data.decode(errors="surrogateescape"))
    head, _, claims = data.partition(b"\n")
    _verify(_signed(b'{"alg":"HS256"}', data))
    identity = _verify(_signed(head, claims))
    require(identity is None or b"alg" in head, "taken with an odd header", head)


def _verify(token: str) -> Identity | None:
    try:
        identity = _VERIFIER.verify(token, now=_MS / 1000)
    except (TokenInvalid, TokenExpired) as refusal:
        require(0 < len(refusal.reason) < 200, "a reason that is none", refusal.reason)
        return None
    require(is_user_id(identity.user) and is_project_id(identity.project), "ids", identity)
    require(all(is_room_id(room) for room in identity.rooms), "rooms", identity)
    return identity


def _signed(header: bytes, claims: bytes) -> str:
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims))
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def key_sets(data: bytes) -> None:
    """A provider's answer is keys or KeysUnavailable."""
    try:
        parse_key_set(data)
    except KeysUnavailable:
        return


# --- REST -----------------------------------------------------------------------------------------

_BODIES: Final[tuple[Callable[[bytes], object], ...]] = (
    lambda data: parse_new_user(parse_body(data, UserBody)),
    lambda data: parse_user_patch(parse_body(data, UserPatch), own=False),
    lambda data: parse_user_patch(parse_body(data, UserPatch), own=True),
    lambda data: parse_new_room(parse_body(data, RoomBody), _PROJECT_ACTOR),
    lambda data: parse_room_patch(parse_body(data, RoomPatch)),
    lambda data: parse_members(parse_body(data, MembersBody)),
    lambda data: parse_change(parse_body(data, MemberPatch)),
    lambda data: parse_body(data, TokenBody),
    lambda data: parse_body(data, ForwardBody),
    acting_user,
    parse_message_draft,
    parse_message_edit,
)


def bodies(data: bytes) -> None:
    """A body is what its route takes, or a ProtocolError."""
    if not data:
        return
    try:
        _BODIES[data[0] % len(_BODIES)](data[1:])
    except ProtocolError as error:
        _judge_refusal(error)


def names(data: bytes) -> None:
    """What stands in a path or a query is understood or refused."""
    text = data.decode(errors="replace")
    found = message_name(text)
    require(found is None or isinstance(found, str) or found < 10**18, "a seq out of range", found)
    try:
        users = parse_ids(text)
    except ProtocolError as error:
        _judge_refusal(error)
    else:
        require(all(map(is_user_id, users)), "ids that are none", users)


# --- the handshake --------------------------------------------------------------------------------


def handshake(data: bytes) -> None:
    """A request head is answered or welcomed; the answer to a handshake holds nothing that the
    client wrote."""
    try:
        request = read_request(data)
    except BadRequest:
        return
    for origins in ((), ("https://*.example.org",)):
        found = judge(request, remote_address="127.0.0.1", allowed_origins=origins, readiness=dict)
        if isinstance(found, Handshake):
            lines = found.answer.split(b"\r\n")
            require(len(lines) <= 7 and lines[-2:] == [b"", b""], "smuggled", found.answer)
            require(b"\r" not in found.answer.replace(b"\r\n", b""), "a bare CR")
            require(b"\n" not in found.answer.replace(b"\r\n", b""), "a bare LF")
            found.take_token()


# --- configuration --------------------------------------------------------------------------------


def settings(data: bytes) -> None:
    """Durations and addresses are understood or a ValueError, which never quotes a password."""
    text = data.decode(errors="replace")
    try:
        seconds = parse_duration(text)
    except ValueError:
        pass
    else:
        again = parse_duration(format_duration(seconds))
        require(abs(again - seconds) <= 0.0005 + 1e-9 * seconds, "a duration changes", text)
    password = "hunter2-is-a-password"
    for candidate in (text, text.replace("@", f"x:{password}@", 1)):
        try:
            address = parse_redis_url(candidate)
        except ValueError as error:
            require(password not in str(error), "a password is shown", error)
        else:
            # Where it is no password it may be a part of the path.
            if password in (address.password or ""):
                require(password not in str(address), "a password is shown", address)
    for rule in (Origins(), Url(("postgresql",))):
        try:
            rule.parse(text)
        except ValueError:
            continue


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A function to fuzz; `tokens` are pieces of its language, for mutations."""

    run: Callable[[bytes], None]
    tokens: tuple[bytes, ...] = ()


_JSON: Final = (
    b'{"', b'"}', b'":"', b'","', b"null", b"true", b"1e400", b"-0", b"\\u0000", b"\\ud800", b"[]",
    b"{}", b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", b"9223372036854775808", b"0.1", b"\xff",
)  # fmt: skip
_COMMAND: Final = (
    b'"type":"publish"', b'"type":"subscribe"', b'"type":"edit"', b'"type":"react"',
    b'"type":"read"', b'"type":"history"', b'"type":"typing"', b'"type":"signal"', b'"id":1',
    b'"room":"room"', b'"content":"x"', b'"metadata":{}', b'"attachments":[]', b'"mentions":["a"]',
    b'"client_id":"c"', b'"reply_to":1', b'"seq":1', b'"since":{"epoch":"e","offset":1}',
)  # fmt: skip

TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "walker": Target(
            walk_frames,
            (b"\x81\x80", b"\x81\xfe", b"\x81\xff", b"\x01\x80", b"\x80\x80", b"\x89\x80",
             b"\x88\x82\x00\x00\x00\x00\x03\xe8", b"\x82\x80", b"\x00\x80", b"\xc1\x80"),
        ),
        "command": Target(command, _JSON + _COMMAND),
        "entry": Target(
            entries,
            (b"epoch 1 1 1700000000000 message.created default/room alice 0\n",
             b"message.edited", b"message.deleted", b"reaction.added", b"reaction.removed",
             b"receipt.read", b'"seq":1', b'"by":"bob"', b'"id":"m"', b'"reaction":"+1"', *_JSON),
        ),
        "sent": Target(sent_answers),
        "redis": Target(
            redis_replies,
            (b"*3\r\n", b"$-1\r\n", b"+OK\r\n", b"-READONLY x\r\n", b":1\r\n", b"$3\r\nabc\r\n",
             b"-ERR Error running script (call to f_1): @user_script:3: -OOM command\r\n"),
        ),
        "token": Target(
            tokens,
            (b'{"alg":"HS256"}\n', b'"sub":"alice"', b'"exp":1800000000', b'"iat":1e9',
             b'"project":"p"', b'"rooms":{"r":["join"]}', b'"crit":[]', b'"kid":"k"', b'"zip":"x"',
             b'"b64":false', b".", b'"name":"A"', *_JSON),
        ),
        "keys": Target(
            key_sets,
            (b'{"keys":[', b'{"kty":"EC","crv":"P-256","x":"', b'{"kty":"RSA","n":"', b'"e":"AQAB"',
             b'{"kty":"OKP","crv":"Ed25519","x":"', b'"use":"sig"', b'"key_ops":["verify"]',
             b'"kid":"k"', b'"alg":"ES256"', *_JSON),
        ),
        "body": Target(
            bodies,
            (b'"id":"', b'"kind":"direct"', b'"members":["a",{"user":"b","role":"admin"}]',
             b'"role":"owner"', b'"muted_until":"2026-01-02T03:04:05Z"', b'"metadata":{"a":1}',
             b'"retention_days":1', b'"email":"a@b"', b'"avatar_url":"https://x"', b'"users":["a"]',
             b'"user_id":"a"', b'"content":"x"', *_JSON),
        ),
        "names": Target(names, (b",", b"0", b"9" * 19, b"01890000-0000-7000-8000-000000000000")),
        "handshake": Target(
            handshake,
            (b"GET /v1/connect HTTP/1.1\r\n", b"Host: x\r\n", b"Upgrade: websocket\r\n",
             b"Connection: Upgrade\r\n", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
             b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Protocol: parley.v1\r\n",
             b"Origin: https://[", b"?token=", b"%00", b"\r\n\r\n", b"Authorization: Bearer "),
        ),
        "settings": Target(
            settings,
            (b"redis://", b"rediss://", b"unix://", b"?db=", b"ssl_cert_reqs=none", b"@", b":6379",
             b"/0", b"500ms", b"24h", b"https://*.", b"postgresql://", b"[::1]", b"%"),
        ),
    }
)  # fmt: skip
